"""Check a golden file: `python -m tests.check_golden FILE.npz [--torch]`.

Rebuilds the case from the file's own config, computes it with the JAX code (or, with --torch, with the
PyTorch file) and prints one line a quantity: worst error, tolerance, where. Exits with 1 on any miss, with 2
if the file cannot be checked.
"""

import argparse
import sys
from collections.abc import Sequence

from tests import golden_cases
from tests.golden_cases import Golden, GoldenError, Line


def check(golden: Golden, with_torch: bool = False) -> list[Line]:
    """Verdict on every quantity of a golden file.

    Raises:
        GoldenError: log-mel or crop goldens with PyTorch, which has no preprocessing.
    """
    if golden.kind in golden_cases.REQUIRED:
        if with_torch:
            from tests import golden_torch as backend
        else:
            from tests import golden_jax as backend
        return list(golden_cases.compare(golden, *getattr(backend, golden.kind)(golden)))
    if with_torch:
        raise GoldenError(f"{golden.path}: the PyTorch file has no {golden.kind}; leave out --torch")
    from tests import golden_jax

    return getattr(golden_jax, golden.kind)(golden)


def main(arguments: Sequence[str]) -> int:
    """Print the verdict; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.check_golden", description=__doc__)
    parser.add_argument("file", help="a golden .npz of the form that tests/goldens/README.md documents")
    parser.add_argument("--torch", action="store_true", help="check the PyTorch file, not the JAX code")
    options = parser.parse_args(arguments)
    try:
        lines = check(golden_cases.load(options.file), options.torch)
    except GoldenError as error:
        print(error, file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    misses = sum(not line.ok for line in lines)
    print(f"{options.file}: {len(lines) - misses} of {len(lines)} within tolerance")
    return int(misses > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
