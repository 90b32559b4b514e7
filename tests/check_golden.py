"""Check golden files: `python -m tests.check_golden FILE.npz … [--torch]`.

Rebuilds the case from the file's own config, computes it with the JAX code (or, with --torch, with the
PyTorch file) and prints one line a quantity: worst error, tolerance, where. Exits with 1 on any miss, with 2
if a file cannot be checked.
"""

import sys
from collections.abc import Sequence

from absl import app, flags

from tests.support import golden_cases
from tests.support.golden_cases import GoldenError
from tests.support.golden_check import check

WITH_TORCH = flags.DEFINE_bool("torch", False, "Check the PyTorch file, not the JAX code.")


def main(argv: Sequence[str]) -> int:
    """Print the verdict on the files that `argv` names; return the exit code."""
    if len(argv) < 2:
        raise app.UsageError("name golden .npz files of the form that tests/goldens/README.md documents")
    return max(map(_verdict, argv[1:]))


def _verdict(path: str) -> int:
    """Print the verdict on one file; return the exit code."""
    try:
        lines = check(golden_cases.load(path), WITH_TORCH.value)
    except GoldenError as error:
        print(error, file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    misses = sum(not line.ok for line in lines)
    print(f"{path}: {len(lines) - misses} of {len(lines)} within tolerance", flush=True)
    return int(misses > 0)


if __name__ == "__main__":
    app.run(main)
