"""Run a command while as many processes as there are cores compute without end.

python -m tests.support.loaded COMMAND...

A test that fails only then depends on how fast the machine is.
"""

import multiprocessing
import os
import subprocess
import sys


def compute(parent: int) -> None:
    """Keep a core busy until the parent has ended, however it ends."""
    while os.getppid() == parent:
        for _ in range(10**6):
            pass


def main(command: list[str]) -> int:
    spinning = [
        multiprocessing.Process(target=compute, args=(os.getpid(),), daemon=True)
        for _ in range(os.cpu_count() or 1)
    ]
    for process in spinning:
        process.start()
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
