#!/usr/bin/env bash
# Runs a command again until it is finished, or until a person must read why it has ended.
#
#   bash restart.sh hicmae pretrain --config=pretrain:B --config.data.sets=data/dev --run=runs/b
#
# Exit code of the command           what the script does
#   75, 137, 143, others above 128   gives the same command again, after RESTART_SECONDS (10)
#   70, no progress                  the same; the second time in a row it ends with 70: read the stacks
#   0, 1, 130, any other             ends with the same code
#
# SIGTERM and Ctrl-C go on to the command, which saves its state; then the script ends with its code.
# -m: the command has a process group of its own. Ctrl-C in a terminal reaches it once, through this script.
set -um

child=
stopped=
stop() {
  stopped=yes
  [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}
trap 'stop TERM' TERM
trap 'stop INT' INT

hangs=0
while true; do
  "$@" &
  child=$!
  wait "$child"
  code=$?
  # A signal ends `wait` before the command has ended. The last call returns the command's own code.
  while kill -0 "$child" 2>/dev/null; do wait "$child"; done
  [ -z "$stopped" ] || { wait "$child"; code=$?; }
  child=

  case $code in
    70) hangs=$((hangs + 1)) ;;
    *) hangs=0 ;;
  esac
  if [ -n "$stopped" ] || [ "$code" -eq 130 ] || [ "$hangs" -eq 2 ]; then exit "$code"; fi
  if [ "$code" -ne 70 ] && [ "$code" -ne 75 ] && [ "$code" -le 128 ]; then exit "$code"; fi
  echo "restart.sh: exit code $code; the same command again in ${RESTART_SECONDS:=10} s" >&2
  sleep "$RESTART_SECONDS" &
  wait $!
  [ -z "$stopped" ] || exit "$code"
done
