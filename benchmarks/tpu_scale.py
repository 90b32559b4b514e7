"""What pre-training costs on slices of TPUs, by the TPU compiler: the tables of `docs/scale.md`.

    python -m benchmarks.tpu_scale --root=runs/tpu_scale

Compiles one step after the other with `launch.aot`, minutes each and no TPU needed; what is compiled already
is not compiled again. Then the tables: of each step, and an estimate of how it scales.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

from hicmae_jax.training.chips import CHIPS, GIB, Chip

_ROOT = flags.DEFINE_string("root", "runs/tpu_scale", "directory of the compiled steps' figures")
_ONLY = flags.DEFINE_bool("only_tables", False, "compile nothing: tables of what is there")

MB = 1e6
HOST_CHIPS = {"v5e": 8, "v5p": 4, "v6e": 8}
SAMPLES_A_CORE = 603  # `python -m benchmarks.input_pipeline`, docs/data.md
MB_A_SAMPLE = 0.7  # read from storage, likewise


class Case(NamedTuple):
    """A step to compile.

    Attributes:
        size: of the model.
        topology: chips.
        batch: clips.
        options: further ones.
    """

    size: str
    topology: str
    batch: int
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.size}-{self.topology.replace(':', '-')}-{self.batch}"


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


def compile_case(case: Case, path: Path) -> None:
    """Compile one step in a process of its own, and write its figures."""
    command = [
        *(sys.executable, "-m", "launch.aot", f"--config=pretrain:{case.size}"),
        *(f"--config.batch={case.batch}", "--config.loss.negatives=global", f"--topology={case.topology}"),
        *(*case.options, f"--json={path}"),
    ]
    print(" ".join(command[1:]), flush=True)
    subprocess.run(command, check=True)


def chip_of(figures: Mapping[str, Any]) -> Chip:
    """The chip that a step was compiled for."""
    return next(chip for chip in CHIPS if chip.name in figures["chip"])


def steps_table(all_figures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line a step: memory, traffic, arithmetic, bound."""
    yield (
        "| size | chips | batch | fsdp | memory a chip, GiB | of it | temporaries, MB a clip | "
        "traffic, MB a clip | GFLOP a clip | the model's | least ms a step | bound by |"
    )
    yield "|" + "---|" * 12
    for of in all_figures:
        memory, roofline = of["hbm_per_chip"], of["roofline"]
        least = max(roofline["memory_seconds"], roofline["arithmetic_seconds"])
        yield (
            f"| {of['size']} | {of['topology']} | {of['batch']:,} | {of['fsdp']} | "
            f"{memory['total'] / GIB:.1f} | {memory['share']:.0%} | {of['temp_bytes_per_clip'] / MB:.0f} | "
            f"{of['hbm_bytes_per_clip'] / MB:,.0f} ({of['hbm_padded_bytes_per_clip'] / MB:,.0f}) | "
            f"{of['flops_per_clip'] / 1e9:.1f} | {of['analytic_flops_per_clip'] / 1e9:.1f} | "
            f"{least * 1e3:.0f} | {roofline['bound']} |"
        )


def message_seconds(figures: Mapping[str, Any]) -> float:
    """Least seconds that a chip's links need for a step's messages.

    Through a chip pass, in each direction, about the bytes of a gather's result or a scatter's input, and
    twice those of a sum over all chips; all links are taken to be busy at their rate.
    """
    crossing = sum(
        message["total"] * (2 if message["kind"] == "all-reduce" else 1) for message in figures["collectives"]
    )
    return crossing / (chip_of(figures).links / 2)


def scaling_table(all_figures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line a step: messages, what they cost at most, what hosts must deliver."""
    yield (
        "| size | chips | batch | sent in a step, MB | of it beside other work | ms for all | "
        "beside a step of, ms | weak scaling, no overlap | clips/s a chip, at most | cores a host | "
        "GB/s a host |"
    )
    yield "|" + "---|" * 11
    for of in all_figures:
        roofline = of["roofline"]
        least = max(roofline["memory_seconds"], roofline["arithmetic_seconds"])
        sent, seconds = sum(each["total"] for each in of["collectives"]), message_seconds(of)
        beside = sum(each["total"] for each in of["collectives"] if each["asynchronous"])
        rate = of["clips_per_chip"] / (least + seconds)
        hosted = rate * HOST_CHIPS[of["topology"].partition(":")[0]]
        yield (
            f"| {of['size']} | {of['topology']} | {of['batch']:,} | {sent / MB:,.0f} | {beside / sent:.0%} | "
            f"{seconds * 1e3:.1f} | {least * 1e3:.0f} | {least / (least + seconds):.0%} | {rate:,.0f} | "
            f"{hosted / SAMPLES_A_CORE:.0f} | {hosted * MB_A_SAMPLE / 1e3:.1f} |"
        )


def main(argv: Sequence[str]) -> None:
    """Compile what is missing, then print both tables."""
    del argv
    root = Path(_ROOT.value)
    root.mkdir(parents=True, exist_ok=True)
    found = []
    for case in CASES:
        path = root / f"{case.name}.json"
        if not path.exists() and not _ONLY.value:
            compile_case(case, path)
        if path.exists():
            found.append(json.loads(path.read_text()))
    for table in (steps_table(found), scaling_table(found)):
        print("\n".join(["", *table]))


if __name__ == "__main__":
    app.run(main)
