#!/usr/bin/env bash
# Pre-training on one machine with one or several GPUs: one process has all of them.
#
# Fill in what is between < and >, put restart.sh beside this file, then: bash one_host_gpus.sh
#   hicmae template restart.sh --output=restart.sh
#
# Exit codes 75, 70, 137 and 143: restart.sh gives the same command again. After 1 read the last line of the output.
# Ctrl-C saves and ends with 130. Start the same file again to go on.
set -eu

# JAX reserves 75 % of a GPU's memory, unless this says otherwise. The rest is for CUDA, cuDNN and NCCL.
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.9

exec bash "$(dirname "$0")/restart.sh" \
  "<directory of the environment>/bin/hicmae" pretrain \
  --config=pretrain:B \
  --config.data.sets="<prepared sets>" \
  --run="<directory of the run>" \
  --platform=gpu
