"""Try faults on real runs at random moments, and print a table of the outcomes.

    python -m tests.chaos --times=3

The exit code is 1 if an outcome was unexpected.
"""

import argparse
import contextlib
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping

from tests.chaos import bucket_faults
from tests.chaos.table import FAULTS, OF_DISKS, as_markdown, as_text
from tests.chaos.trials import Fault, Stage, Trial, attempt
from tests.support.bucket_server import served


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1, help="how often to try each fault")
    parser.add_argument(
        "--faults",
        type=lambda names: names.split(","),
        help="names, with commas between; all by default",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=time.time_ns() % 10**6,
        help="of all random draws; by default another each time",
    )
    parser.add_argument("--bucket", action="store_true", help="let the runs lie in a bucket on loopback")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/operations.md")
    arguments = parser.parse_args()
    if arguments.bucket:
        known = {name: fault for name, fault in FAULTS.items() if name not in OF_DISKS} | bucket_faults.FAULTS
    else:
        known = FAULTS
    arguments.faults = arguments.faults or list(known)
    if unknown := set(arguments.faults) - known.keys():
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")

    print(f"seed {arguments.seed}", file=sys.stderr)
    root = pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    with contextlib.ExitStack() as stack:
        bucket = stack.enter_context(served()) if arguments.bucket else None
        # The log of a run in a bucket is sent every 10 s, too late to see which step has been made.
        stage = Stage(root, arguments.seed, pauses=arguments.bucket, bucket=bucket)
        trials = try_all(arguments, known, stage)
    print((as_markdown if arguments.markdown else as_text)(trials))
    if any(trial.missed for trial in trials):
        print(f"the directories of these trials are in {root}", file=sys.stderr)
        return 1
    shutil.rmtree(root)
    return 0


def try_all(arguments: argparse.Namespace, known: Mapping[str, Fault], stage: Stage) -> list[Trial]:
    trials = []
    for name in arguments.faults:
        for number in range(arguments.times):
            begun = time.monotonic()
            trials.append(
                attempt(name, known[name], stage, random.Random(f"{arguments.seed} {name} {number}"))
            )
            seconds = time.monotonic() - begun
            print(f"{name}, {number + 1} of {arguments.times}: {seconds:.0f} s", file=sys.stderr)
            for missed in trials[-1].missed:
                print(f"  unexpected: {missed}", file=sys.stderr)
    return trials


if __name__ == "__main__":
    sys.exit(main())
