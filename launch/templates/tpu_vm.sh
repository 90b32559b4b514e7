#!/usr/bin/env bash
# Pre-training on one TPU slice of Google Cloud, on TPU VMs without Kubernetes. It runs on your own machine.
#
# Fill in what is between < and >, then:
#   bash tpu_vm.sh create     ask for the TPUs, and wait until they are there
#   bash tpu_vm.sh install    install the package on all hosts
#   bash tpu_vm.sh start      start the run on all hosts; the command returns at once
#   bash tpu_vm.sh watch      show the output of the first host
#   bash tpu_vm.sh stop       SIGTERM: all hosts save one step and end
#   bash tpu_vm.sh delete     give the TPUs back
#
# On each host restart.sh gives the same command again after 75, 137 and 143, and once after 70. After 1 and 130 it ends:
# read the last line (watch), then stop and start again, as after a reboot of a host. When Google takes the TPUs away
# (spot), do delete, create, install and start: the run goes on from the bucket.
set -euo pipefail

project="<project>"
zone="<zone>"                          # such as us-east5-b
name="<name of the run>"               # small letters, digits, hyphens
type="<accelerator type>"              # such as v6e-16; gcloud compute tpus accelerator-types list
version="<runtime version>"            # such as v2-alpha-tpuv6e; gcloud compute tpus tpu-vm versions list
account="<service account>"            # may read the sets and write the run in the bucket
package="<address of the package>"     # a wheel or git+https://…; pip installs it with the extras tpu and gcs
bucket="<bucket>"                      # gs://NAME

command=(
  hicmae/bin/hicmae pretrain
  --config=pretrain:B
  --config.data.sets="<prepared sets>"
  --config.data.cache=/tmp/sets
  --config.data.cache_gb="<gigabytes of data for a host>"
  --run="$bucket/$name"
  --platform=tpu
  --distributed
)

tpus() { gcloud compute tpus "$@" --project="$project" --zone="$zone"; }
on_all() { tpus tpu-vm ssh "$name" --worker=all --command="$1"; }

case "${1:-}" in
  create)
    # Without --spot the TPUs are on demand. With --reserved they come from a reservation.
    tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
      --runtime-version="$version" --service-account="$account" --spot
    state=
    until [ "$state" = ACTIVE ]; do
      sleep "${POLL_SECONDS:-30}"
      state=$(tpus queued-resources describe "$name" --format='value(state.state)')
      echo "$state"
      case $state in FAILED | SUSPENDED) exit 1 ;; esac
    done
    ;;
  install)
    # uv brings a Python of its own: that of the TPU images may be older than 3.11.
    on_all "pip install --quiet --user uv && python3 -m uv venv --clear --python=3.12 hicmae \
      && python3 -m uv pip install --quiet --python=hicmae/bin/python 'hicmae_jax[tpu,gcs] @ $package' \
      && hicmae/bin/hicmae template restart.sh > restart.sh"
    ;;
  start)
    # A unit of systemd goes on when ssh ends. KillMode=mixed: SIGTERM goes to restart.sh alone, which hands it on once.
    # The devices of TPUs need locked memory.
    # Programs that are compiled are kept in the bucket: a host that starts again does not compile.
    on_all "sudo systemd-run --unit=hicmae --collect --uid=\$(id -u) --working-directory=\$HOME \
      --property=KillMode=mixed --property=TimeoutStopSec=300 --property=LimitMEMLOCK=infinity \
      --setenv=JAX_COMPILATION_CACHE_DIR='$bucket/compiled' bash restart.sh ${command[*]@Q}"
    ;;
  watch) tpus tpu-vm ssh "$name" --worker=0 --command="sudo journalctl --unit=hicmae --lines=50 --follow" ;;
  stop) on_all "sudo systemctl stop hicmae || true" ;;  # a host on which it has ended has no such unit
  delete) tpus queued-resources delete "$name" --force --quiet ;;
  *)
    echo "bash tpu_vm.sh create | install | start | watch | stop | delete" >&2
    exit 1
    ;;
esac
