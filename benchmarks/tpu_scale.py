"""The TPU tables of `docs/scale.md`: what a train step costs on slices of TPUs, by the TPU compiler.

    python -m benchmarks.tpu_scale --root=runs/tpu_scale

Compiles one step after the other with `launch.aot`, which takes minutes each and needs no TPU. After an
interruption, the same command continues. Then it prints two tables: the cost of each step, and an estimate of
how the step scales.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from benchmarks.compiled_steps import Case, tables
from launch import command

FLAGS = flags.FLAGS

POD = "v5e:16x16"
CASES = (
    *(Case(size, POD, 16_384) for size in ("T", "S", "B", "L")),
    Case("H", POD, 16_384, ("--config.fsdp=4",)),
    Case("g", POD, 16_384, ("--config.fsdp=16",)),
    Case("g", "v5p:4x8x8", 16_384, ("--config.fsdp=8",)),
    Case("B", "v6e:16x16", 16_384),
    Case("B", POD, 32_768),
    Case("B", "v5p:2x2x1", 256),
)


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("root", "runs/tpu_scale", "Directory for the figures of the compiled steps.")
    flags.DEFINE_bool("only_tables", False, "Compile nothing; print the tables of the steps compiled so far.")


def main(argv: Sequence[str]) -> int:
    """Compiles the steps that have no figures yet, then prints both tables; returns the exit code."""
    del argv
    tables(CASES, Path(FLAGS.root), FLAGS.only_tables)
    return 0


if __name__ == "__main__":
    command.run("tpu_scale", define_flags, main, resumable=True)
