"""Check a golden file: `python -m tests.check_golden FILE.npz [--torch]`.

Rebuilds the case from the file's own config, computes it with the JAX code (or, with --torch, with the
PyTorch file) and prints one line a quantity: worst error, tolerance, where. Exits with 1 on any miss, with 2
if the file cannot be checked.
"""

import importlib
import sys
from collections.abc import Sequence

import jax
from absl import app, flags

from tests.support import golden_cases
from tests.support.golden_cases import Golden, GoldenError, Line

WITH_TORCH = flags.DEFINE_bool("torch", False, "Check the PyTorch file, not the JAX code.")


def check(golden: Golden, with_torch: bool = False) -> list[Line]:
    """Check every quantity of a golden file.

    Raises:
        GoldenError: log-mel or crop goldens with PyTorch, which has no preprocessing.
    """
    of_model = golden.kind in golden_cases.REQUIRED
    if with_torch and not of_model:
        raise GoldenError(f"{golden.path}: the PyTorch file has no {golden.kind}; leave out --torch")
    backend = importlib.import_module(
        "tests.support.golden_torch" if with_torch else "tests.support.golden_jax"
    )
    # Accelerators multiply float32 in fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        result = getattr(backend, golden.kind)(golden)
    return list(golden_cases.compare(golden, *result)) if of_model else result


def main(argv: Sequence[str]) -> int:
    """Print the verdict on the file that `argv` names; return the exit code."""
    if len(argv) != 2:
        raise app.UsageError("name one golden .npz of the form that tests/goldens/README.md documents")
    try:
        lines = check(golden_cases.load(argv[1]), WITH_TORCH.value)
    except GoldenError as error:
        print(error, file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    misses = sum(not line.ok for line in lines)
    print(f"{argv[1]}: {len(lines) - misses} of {len(lines)} within tolerance")
    return int(misses > 0)


if __name__ == "__main__":
    app.run(main)
