#!/usr/bin/env bash
# Pre-training under Slurm, on one or several machines with GPUs: one process for each GPU.
#
# Fill in what is between < and >, then: sbatch slurm.sh
# The environment, the prepared sets and the directory of the run lie on a disk that all machines see.
# The run's directory and the sets may also lie in a bucket.
#
# Five minutes before the end of --time, and before Slurm takes the machines away, all processes get SIGTERM. They save
# one step and end with 75. After 75 and after 70 (no progress) the job is queued again and goes on. After any other
# code it stays ended: after 1 read the last line of the output.
# If codes of 70 recur, cancel the job (scancel) and read stacks-0.txt in the directory of the run.
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

# --- begin of the command
command=(
  "<directory of the environment>/bin/hicmae" pretrain
  --config=pretrain:B
  --config.data.sets="<prepared sets>"
  --config.data.threads="$SRUN_CPUS_PER_TASK"
  --run="<directory of the run>"
  --platform=gpu
  --distributed
)
# --- end of the command

srun "${command[@]}"
code=$?
case $code in
  70 | 75) scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$code"
