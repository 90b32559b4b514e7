"""Stands for Slurm's `srun` on one machine: starts SLURM_NTASKS processes of a command, with their variables.

SIGTERM goes on to all of them. The exit code is the highest of theirs, as srun's is.
"""

import os
import signal
import subprocess
import sys


def main() -> int:
    started: list[subprocess.Popen] = []

    def hand_on(number: int, frame: object) -> None:
        for process in started:
            process.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    for task in range(int(os.environ["SLURM_NTASKS"])):
        own = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_STEP_NODELIST": "localhost"}
        started.append(subprocess.Popen(sys.argv[1:], env=os.environ | own))
    return max(process.wait() for process in started)


if __name__ == "__main__":
    sys.exit(main())
