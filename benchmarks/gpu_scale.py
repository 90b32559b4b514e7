"""The GPU tables of `docs/scale.md`: what a train step costs on hosts of GPUs, by XLA's GPU compiler.

    python -m benchmarks.gpu_scale --root=runs/gpu_scale

Compiles one step after the other with `launch.aot`, which takes minutes each and needs no GPU. After an
interruption, the same command continues. Then it prints three tables: the cost of each step, an estimate of
how the step scales, and the kernels that it starts.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.compiled_steps import Case, tables
from launch import command

FLAGS = flags.FLAGS

HOST = "h200:1x8"
RECOMPUTED = "--config.execution.remat_encoder=full"
CASES = (
    Case("B", "h200:1x1", 80),
    *(Case(size, HOST, 1_024) for size in ("T", "S", "B", "L")),
    *(Case(size, HOST, 1_024, (RECOMPUTED,)) for size in ("H", "g")),
    Case("B", "h200:1x4", 512),
    Case("B", "h200:2x8", 2_048),
    Case("g", "h200:2x8", 2_048, (RECOMPUTED,)),
    Case("g", "h200:2x8", 1_024, ("--config.fsdp=8", RECOMPUTED)),
)


def kernels_table(all_figures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of the table of kernels; a call of cuBLAS or cuDNN counts as one.

    Args:
        all_figures: of each step, what `launch.aot --json` wrote.
    """
    yield "| size | GPUs | batch | kernels a step |"
    yield "|" + "---|" * 4
    for figures in all_figures:
        cells = (figures["size"], figures["topology"], f"{figures['batch']:,}", f"{figures['launches']:,}")
        yield f"| {' | '.join(cells)} |"


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("root", "runs/gpu_scale", "Directory for the figures of the compiled steps.")
    flags.DEFINE_bool("only_tables", False, "Compile nothing; print the tables of the steps compiled so far.")


def main(argv: Sequence[str]) -> int:
    """Compiles the steps that have no figures yet, then prints the tables; returns the exit code."""
    del argv
    tables(CASES, Path(FLAGS.root), FLAGS.only_tables, [kernels_table])
    return 0


if __name__ == "__main__":
    command.run("gpu_scale", define_flags, main, resumable=True)
