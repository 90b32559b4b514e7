"""Error of a sum of gradients over chips, by the precision and the order in which they are added.

    python -m benchmarks.gradient_sums [--chips=256]

Each chip's gradient is the true one plus noise of its own clips, as large as the true one or 10 or 100 times
as large. The sum rounds after each addition to bfloat16, in one ring over all chips, or along the rows and
then the columns of a square torus; or it is in float32, as `execution.reduce_dtype=float32` makes it. The
table has the root mean square of the error, as a share of that of the sum and of the noise in the sum.
"""

from collections.abc import Callable, Iterator, Sequence

import ml_dtypes
import numpy as np
from absl import flags

from launch import command

FLAGS = flags.FLAGS

ELEMENTS = 200_000
NOISE = (1, 10, 100)


def rounded(values: np.ndarray) -> np.ndarray:
    """Values float32[…], rounded to bfloat16."""
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def in_turn(parts: np.ndarray) -> np.ndarray:
    """Sum of parts that are added one after the other, rounded after each addition."""
    total = rounded(parts[0])
    for part in parts[1:]:
        total = rounded(total + rounded(part))
    return total


def on_torus(parts: np.ndarray) -> np.ndarray:
    """Sum along the rows and then the columns of a square of chips."""
    side = round(len(parts) ** 0.5)
    return in_turn(np.stack([in_turn(row) for row in parts.reshape(side, side, -1)]))


def in_float32(parts: np.ndarray) -> np.ndarray:
    """Sum in float32."""
    return parts.sum(0, dtype=np.float32)


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bfloat16, one ring": in_turn,
    "bfloat16, rows and columns of a torus": on_torus,
    "float32": in_float32,
}


def table(chips: int, elements: int = ELEMENTS) -> Iterator[str]:
    """Lines of the table.

    Args:
        chips: a square number.
        elements: of the gradient.
    """
    random = np.random.default_rng(0)
    yield "| noise of a chip's gradient | sum | error, share of the sum | share of its noise |"
    yield "|" + "---|" * 4
    for noise in NOISE:
        true = random.standard_normal(elements)
        parts = (true + noise * random.standard_normal((chips, elements))).astype(np.float32)
        exact = parts.sum(0, dtype=np.float64)
        for name, add in ORDERS.items():
            error = np.sqrt(np.mean((add(parts) - exact) ** 2))
            shares = error / np.sqrt(np.mean(exact**2)), error / (noise * chips**0.5)
            yield f"| {noise} × | {name} | {shares[0]:.2g} | {shares[1]:.2g} |"


def main(argv: Sequence[str]) -> int:
    """Prints the table; returns the exit code."""
    side = round(FLAGS.chips**0.5)
    if side < 2 or side**2 != FLAGS.chips:
        raise ValueError(f"--chips={FLAGS.chips} is not the square of 2 or more: say 64, 256 or 1024")
    print("\n".join(table(FLAGS.chips)))
    return 0


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_integer("chips", 256, "Chips, a square number.")


if __name__ == "__main__":
    command.run("gradient_sums", define_flags, main)
