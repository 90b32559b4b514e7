#!/usr/bin/env bash
# Pre-training under Slurm in a container: slurm.sh with the image of Dockerfile, by the plugin pyxis.
#
# Fill in what is between < and >, then: sbatch slurm_container.sh
# The image is a file .sqsh (enroot import) or an address as pyxis takes it, such as registry.example#hicmae:cuda.
# With Apptainer instead, the line of srun is:
#   srun apptainer exec --nv --bind "<directories for the container>" "<image>" "${command[@]}"
#
# Exit codes: as slurm.sh. The job is queued again after 75 and 70, and stays ended after any other code.
#
#SBATCH --job-name=hicmae
#SBATCH --nodes=<hosts of a run>
#SBATCH --ntasks-per-node=<GPUs of a host>
#SBATCH --gpus-per-node=<GPUs of a host>
#SBATCH --cpus-per-task=<cores for a GPU>
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
#SBATCH --output=hicmae-%j.txt
set -u

# JAX reserves 75 % of a GPU's memory, unless this says otherwise. The rest is for CUDA, cuDNN and NCCL.
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.9
# srun does not take this number from sbatch. Without it, a process may get only one core.
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"

# The image's own entry point is not used: srun starts the command itself, so that SIGTERM reaches it.
command=(
  hicmae pretrain
  --config=pretrain:B
  --config.data.sets="<prepared sets>"
  --config.data.threads="$SRUN_CPUS_PER_TASK"
  --run="<directory of the run>"
  --platform=gpu
  --distributed
)

# A list of SOURCE:TARGET with commas between, for example /shared:/shared.
srun --no-container-entrypoint --container-image="<image>" \
  --container-mounts="<directories for the container>" "${command[@]}"
code=$?
case $code in
  70 | 75) scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$code"
