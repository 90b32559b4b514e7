"""Speed of an update in JAX and in PyTorch, from the same weights and the same clips.

    python -m benchmarks.gpu_step [--size=B --batch=40] [--sides=jax,strong] [--windows=5] [--json=FILE]

Needs only JAX, Flax, Optax, PyTorch and NumPy. Without --size it measures the cases of docs/benchmarks.md.
Each side is a process of its own. First all sides make the same two updates: their losses and gradient norms
must agree, or nothing is timed. Then they take turns at windows of updates; rates are medians over windows.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NoReturn

import torch

from benchmarks.step_speed import report
from benchmarks.step_speed.cases import SIDES, SIZES, Case
from benchmarks.step_speed.measure import Disagreement, measure
from hicmae_jax.model.config import ATTENTION, DTYPES


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"gpu_step: {message}", file=sys.stderr)
        sys.exit(1)


def _sides(text: str) -> tuple[str, ...]:
    sides = tuple(text.split(","))
    if unknown := [side for side in sides if side not in SIDES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(SIDES)}")
    if sides[0] != "jax":
        raise argparse.ArgumentTypeError("jax comes first, since the others take its weights")
    return sides


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = _Parser(prog="gpu_step", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    result.add_argument("--size", choices=SIZES, default="T", help="model to measure")
    result.add_argument("--batch", type=int, default=8, help="clips in a step")
    sides = "\n".join(f"{name}: {meaning}" for name, meaning in SIDES.items())
    result.add_argument("--sides", type=_sides, default=("jax", "eager"), help=f"comma-separated\n{sides}")
    result.add_argument("--dtype", choices=DTYPES, help="by default float32 on a CPU, bfloat16 on a GPU")
    result.add_argument("--attention", choices=ATTENTION, default="xla", help="of JAX")
    result.add_argument("--windows", type=int, default=5, help="windows of each side")
    result.add_argument("--seconds", type=float, default=2.0, help="least length of a window")
    result.add_argument("--json", type=Path, help="file to write the figures to")
    return result


def main() -> int:
    """Measures, prints and writes the figures; returns the exit code."""
    flags = parser().parse_args()
    begun = time.monotonic()
    dtype = flags.dtype or ("bfloat16" if torch.cuda.is_available() else "float32")
    cases = [Case(flags.size, flags.batch, flags.sides, dtype, flags.attention)]
    measured = []
    try:
        for case in cases:
            figures = measure(case, flags.windows, flags.seconds)
            report.add_utilisation(figures)
            print("\n".join(report.lines(figures)), flush=True)
            measured.append(figures)
    except Disagreement as error:
        print(f"gpu_step: {error}", file=sys.stderr)
        return 1
    if flags.json:
        result = {"seconds": time.monotonic() - begun, "cases": measured}
        flags.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
