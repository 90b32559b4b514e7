"""Tables of what compiled train steps cost, and of how they scale, for `docs/scale.md`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hicmae_jax.studies.price import MB_A_SAMPLE, SAMPLES_A_CORE, host_chips
from hicmae_jax.studies.stages import Record, Stage, python_command, run_all
from hicmae_jax.training.chips import GIB

MB = 1e6

Table = Callable[[Sequence[Mapping[str, Any]]], Iterator[str]]
"""Figures of steps → lines of a table, one a step."""


class Case(NamedTuple):
    """A train step to compile.

    Attributes:
        size: size of the model.
        topology: chips and their network.
        batch: clips in a step.
        options: further options of `launch.aot`.
    """

    size: str
    topology: str
    batch: int
    options: tuple[str, ...] = ()

    def figures_path(self, root: Path) -> Path:
        """File of the step's figures."""
        return root / f"{self.size}-{self.topology.replace(':', '-')}-{self.batch}.json"

    def stage(self, root: Path) -> Stage:
        """The command that compiles the step and writes its figures."""
        path = self.figures_path(root)
        command = python_command(
            "launch.aot",
            f"--config=pretrain:{self.size}",
            f"--config.batch={self.batch}",
            "--config.loss.negatives=global",
            f"--topology={self.topology}",
            *self.options,
            f"--json={path}",
        )
        return Stage(f"compile {path.stem}", command)


def tables(cases: Sequence[Case], root: Path, only_tables: bool, more: Sequence[Table] = ()) -> None:
    """Compile the steps that have no figures yet, then print the tables.

    Args:
        cases: the steps.
        root: directory for the figures.
        only_tables: compile nothing.
        more: tables to print after those of costs and of scaling.
    """
    if not only_tables:
        run_all([case.stage(root) for case in cases], Record(root))
    paths = [case.figures_path(root) for case in cases]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    for table in (steps_table, scaling_table, *more):
        print("\n".join(["", *table(found)]))


def steps_table(all_figures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of the table of costs, one a step: memory, traffic, arithmetic, bound.

    Args:
        all_figures: of each step, what `launch.aot --json` wrote.
    """
    yield (
        "| size | chips | batch | fsdp | memory a chip, GiB | share of the chip's | temporaries, MB a clip | "
        "traffic, MB a clip | GFLOP a clip | GFLOP the model needs | least ms a step | bound by |"
    )
    yield "|" + "---|" * 12
    for figures in all_figures:
        memory = figures["hbm_per_chip"]
        cells = (
            figures["size"],
            figures["topology"],
            f"{figures['batch']:,}",
            figures["fsdp"],
            f"{memory['total'] / GIB:.1f}",
            f"{memory['share']:.0%}",
            f"{figures['temp_bytes_per_clip'] / MB:.0f}",
            f"{figures['hbm_bytes_per_clip'] / MB:,.0f} ({figures['hbm_padded_bytes_per_clip'] / MB:,.0f})",
            f"{figures['flops_per_clip'] / 1e9:.1f}",
            f"{figures['analytic_flops_per_clip'] / 1e9:.1f}",
            f"{least_seconds(figures) * 1e3:.0f}",
            figures["roofline"]["bound"],
        )
        yield f"| {' | '.join(map(str, cells))} |"


def least_seconds(figures: Mapping[str, Any]) -> float:
    """The least time of a step by memory and arithmetic, in seconds."""
    return max(figures["roofline"]["memory_seconds"], figures["roofline"]["arithmetic_seconds"])


def message_seconds(figures: Mapping[str, Any]) -> tuple[float, float]:
    """The least time of the messages of a step, in seconds; `hicmae_jax.aot.overlap` states the model.

    Args:
        figures: figures of the step.

    Returns:
        The time that a chip's links need for all messages, and the part in which no other work runs.
    """
    needed, beside = (
        sum(message[name] for message in figures["collectives"]) for name in ("seconds", "beside_seconds")
    )
    return needed, needed - beside


def scaling_table(all_figures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of the table of scaling, one a step: messages, their cost at most, what a host must deliver.

    Args:
        all_figures: of each step, what `launch.aot --json` wrote.
    """
    yield (
        "| size | chips | batch | messages a step, MB | ms for messages | of them with no other work | "
        "least ms a step | weak scaling without overlap | weak scaling | clips/s a chip, at most | "
        "cores a host | GB/s a host |"
    )
    yield "|" + "---|" * 12
    for figures in all_figures:
        least, (seconds, alone) = least_seconds(figures), message_seconds(figures)
        sent = sum(message["total"] for message in figures["collectives"])
        rate = figures["clips_per_chip"] / (least + alone)
        host_rate = rate * host_chips(figures["topology"])
        cells = (
            figures["size"],
            figures["topology"],
            f"{figures['batch']:,}",
            f"{sent / MB:,.0f}",
            f"{seconds * 1e3:.1f}",
            f"{alone * 1e3:.1f}",
            f"{least * 1e3:.0f}",
            f"{least / (least + seconds):.0%}",
            f"{least / (least + alone):.0%}",
            f"{rate:,.0f}",
            f"{host_rate / SAMPLES_A_CORE:.0f}",
            f"{host_rate * MB_A_SAMPLE / 1e3:.1f}",
        )
        yield f"| {' | '.join(map(str, cells))} |"
