"""The GPU tables of `docs/scale.md`: what a train step costs on hosts of GPUs, by XLA's GPU compiler.

    python -m benchmarks.gpu_scale --root=runs/gpu_scale

Compiles one step after the other with `launch.aot`, which takes minutes each and needs no GPU. After an
interruption, the same command continues. Then it prints two tables: the cost of each step, and an estimate of
how the step scales.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.tpu_scale import MB, MB_A_SAMPLE, SAMPLES_A_CORE, Case, chip_of, least_seconds, steps_table
from hicmae_jax.studies.stages import Record, run_all
from launch import command

FLAGS = flags.FLAGS

HOST = "h200:1x8"
CASES = (
    Case("B", "h200:1x1", 80),
    *(Case(size, HOST, 1_024) for size in ("T", "S", "B")),
    Case("B", "h200:2x8", 2_048),
)


def hosts(figures: Mapping[str, Any]) -> tuple[int, int]:
    """The hosts of a step, and the GPUs of a host."""
    first, second = figures["topology"].partition(":")[2].split("x")
    return int(first), int(second)


def message_seconds(figures: Mapping[str, Any]) -> float:
    """The least time that messages of a step need, in seconds.

    In each direction a GPU passes on about the bytes of a gather's result or of a scatter's input, and twice
    the bytes of a sum. Inside a host they take NVLink, at the rate that the maker states. Between hosts each
    GPU then passes on its share of them over its own port, at that port's rate.

    Args:
        figures: figures of the step.
    """
    crossing = sum(
        message["total"] * (2 if message["kind"] == "all-reduce" else 1) for message in figures["collectives"]
    )
    chip, (host_count, gpus) = chip_of(figures), hosts(figures)
    assert chip.links, f"the rate of NVLink of {figures['chip']} is not known"
    assert chip.network, f"the rate of the network of {figures['chip']} is not known"
    inside = crossing / (chip.links / 2) if gpus > 1 else 0.0
    return inside + (crossing / gpus / (chip.network / 2) if host_count > 1 else 0.0)


def scaling_table(all_figures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of the table of scaling, one a step: launches, messages, their cost, what a host must deliver.

    Args:
        all_figures: of each step, what `launch.aot --json` wrote.
    """
    yield (
        "| size | GPUs | batch | launches a step | messages a step, MB | asynchronous | ms for messages | "
        "least ms a step | weak scaling without overlap | clips/s a GPU, at most | cores a host | "
        "GB/s a host |"
    )
    yield "|" + "---|" * 12
    for figures in all_figures:
        least, seconds = least_seconds(figures), message_seconds(figures)
        sent = sum(message["total"] for message in figures["collectives"])
        asynchronous = sum(message["total"] for message in figures["collectives"] if message["asynchronous"])
        rate = figures["clips_per_chip"] / (least + seconds)
        host_rate = rate * hosts(figures)[1]
        cells = (
            figures["size"],
            figures["topology"],
            f"{figures['batch']:,}",
            f"{figures['launches']:,}",
            f"{sent / MB:,.0f}",
            f"{asynchronous / sent:.0%}" if sent else "none",
            f"{seconds * 1e3:.1f}",
            f"{least * 1e3:.0f}",
            f"{least / (least + seconds):.0%}",
            f"{rate:,.0f}",
            f"{host_rate / SAMPLES_A_CORE:.0f}",
            f"{host_rate * MB_A_SAMPLE / 1e3:.1f}",
        )
        yield f"| {' | '.join(map(str, cells))} |"


def main(argv: Sequence[str]) -> int:
    """Compiles the steps that have no figures yet, then prints both tables; returns the exit code."""
    root = Path(FLAGS.root)
    if not FLAGS.only_tables:
        run_all([case.stage(root) for case in CASES], Record(root))
    paths = [case.figures_path(root) for case in CASES]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    for table in (steps_table(found), scaling_table(found)):
        print("\n".join(["", *table]))
    return 0


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("root", "runs/gpu_scale", "Directory for the figures of the compiled steps.")
    flags.DEFINE_bool("only_tables", False, "Compile nothing; print the tables of the steps compiled so far.")


if __name__ == "__main__":
    command.run("gpu_scale", define_flags, main, resumable=True)
