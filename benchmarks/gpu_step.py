"""Speed of an update in JAX and in PyTorch, from the same weights and the same clips.

    python -m benchmarks.gpu_step [--size=B --batch=40] [--sides=jax,strong] [--windows=5] [--json=FILE]

Needs only JAX, Flax, Optax, PyTorch and NumPy. Without --size it measures the cases of docs/benchmarks.md:
those of a GPU if PyTorch finds one, otherwise those of a CPU. Each side is a process of its own. First all
sides make the same two updates: their losses and gradient norms must agree, or the command ends. Then they
take turns at windows of updates; rates are medians over windows.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from benchmarks.step_speed import report
from benchmarks.step_speed.cases import SIDES, SIZES, Case
from benchmarks.step_speed.measure import DisagreementError, measure
from hicmae_jax.model.config import ATTENTION, DTYPES


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"gpu_step: {message}", file=sys.stderr)
        sys.exit(1)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return int(text)


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
    result.add_argument("--size", choices=SIZES, help="model to measure")
    result.add_argument("--batch", type=_positive, help="clips in a step of --size, by default 8")
    sides = "\n".join(f"{name}: {meaning}" for name, meaning in SIDES.items())
    result.add_argument("--sides", type=_sides, help=f"comma-separated\n{sides}")
    result.add_argument("--dtype", choices=DTYPES, help="by default float32 on a CPU, bfloat16 on a GPU")
    result.add_argument("--attention", choices=ATTENTION, help="of JAX, by default that of a run here")
    result.add_argument("--windows", type=_positive, default=5, help="windows of each side")
    result.add_argument("--seconds", type=float, default=1.0, help="least length of a window")
    result.add_argument("--json", type=Path, help="file to write the figures to")
    return result


def groups(flags: argparse.Namespace, on_gpu: bool) -> list[list[Case]]:
    """The cases to measure; those of a group are prepared at the same time.

    Args:
        flags: the command line.
        on_gpu: whether PyTorch has a GPU.
    """
    dtype = flags.dtype or ("bfloat16" if on_gpu else "float32")

    def case(size: str, batch: int, *sides: str, apart: bool = False) -> Case:
        return Case(size, batch, flags.sides or sides, dtype, flags.attention, apart)

    both = ("jax", "strong" if on_gpu else "eager")
    if flags.size:
        return [[case(flags.size, flags.batch or 8, *both)]]
    if not on_gpu:
        return [[case("T", 8, *both, "published")], [case("small", 32, "jax", "jax-clips", "eager")]]
    return [
        [case("B", 40, "jax", "published", "strong"), case("B", 80, *both), case("B", 256, *both)],
        [case("B", 1024, *both, apart=True)],  # the activations of both would not fit
        [case("T", 256, *both), case("S", 256, *both), case("L", 80, *both)],
    ]


def main() -> int:
    """Measures, prints and writes the figures; returns the exit code."""
    flags = parser().parse_args()
    if flags.batch and not flags.size:
        parser().error("--batch needs --size")
    if flags.json and not flags.json.parent.is_dir():
        parser().error(f"--json={flags.json}: there is no directory {flags.json.parent}")
    begun = time.monotonic()
    measured: list[Mapping[str, Any]] = []
    try:
        for together in groups(flags, torch.cuda.is_available()):
            for figures in measure(together, flags.windows, flags.seconds):
                print("\n".join(report.lines(figures)), flush=True)
                measured.append(figures)
            if flags.json:  # after each group, so that an interruption loses only one
                result = {"seconds": time.monotonic() - begun, "cases": measured}
                flags.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except DisagreementError as error:
        print(f"gpu_step: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gpu_step: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
