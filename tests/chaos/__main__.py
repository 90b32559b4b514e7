"""Try faults on real runs at random moments, and print a table of the outcomes.

    python -m tests.chaos --times=3

The exit code is 1 if an outcome was unexpected.
"""

import argparse
import pathlib
import random
import shutil
import sys
import tempfile
import time

from tests.chaos.table import FAULTS, as_markdown, as_text
from tests.chaos.trials import Stage, attempt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1, help="how often to try each fault")
    parser.add_argument(
        "--faults",
        type=lambda names: names.split(","),
        default=list(FAULTS),
        help="names, with commas between; all by default",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=time.time_ns() % 10**6,
        help="of all random draws; by default another each time",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/operations.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - FAULTS.keys():
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; there are: {', '.join(FAULTS)}")

    print(f"seed {arguments.seed}", file=sys.stderr)
    root = pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    stage = Stage(root, arguments.seed, pauses=False)
    trials = []
    for name in arguments.faults:
        for number in range(arguments.times):
            begun = time.monotonic()
            trials.append(
                attempt(name, FAULTS[name], stage, random.Random(f"{arguments.seed} {name} {number}"))
            )
            seconds = time.monotonic() - begun
            print(f"{name}, {number + 1} of {arguments.times}: {seconds:.0f} s", file=sys.stderr)
            for missed in trials[-1].missed:
                print(f"  unexpected: {missed}", file=sys.stderr)
    print((as_markdown if arguments.markdown else as_text)(trials))
    if any(trial.missed for trial in trials):
        print(f"the directories of these trials are in {root}", file=sys.stderr)
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
