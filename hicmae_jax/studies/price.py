"""What a run costs before it is begun: parameters, arithmetic, chip-hours, and what its hosts must read."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

from hicmae_jax.model import shapes
from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.model.flops import flops
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.studies.plan import PlannedRun
from hicmae_jax.training.chips import CHIPS, Chip

HOST_CHIPS: Mapping[str, int] = {"v5e": 8, "v5p": 4, "v6e": 8}
"""Chips of a host, by the kind of TPU; a topology of GPUs says it itself."""
_NAMES: Mapping[str, str] = {
    "v5e": "TPU v5e",
    "v5p": "TPU v5p",
    "v6e": "TPU v6",
    "h200": "H200",
    "h100": "H100",
    "a100-80": "A100-SXM4-80GB",
    "b200": "B200",
}
"""Kind in the name of a topology → name of the chip in `training.chips`."""
SAMPLES_A_CORE = 603  # a second, measured by `python -m benchmarks.input_pipeline`; see docs/data.md
MB_A_SAMPLE = 0.7  # read from storage; see docs/data.md
MFU = 0.4


@dataclasses.dataclass(frozen=True)
class Price:
    """The cost of one run.

    Attributes:
        parameters: number of parameters in pre-training.
        flops_a_clip: operations of the model for one clip, forward and backward.
        clips: clips that the run sees itself, without those of its trunk.
        chip_hours: time of all chips together at the stated share of their peak rate.
        cores: cores that a host needs to decode for its chips.
        gigabytes: GB a second that a host reads.
        fits: what the compiler says about the memory; empty if it was not asked.
    """

    parameters: int
    flops_a_clip: float
    clips: int
    chip_hours: float | None = None
    cores: float | None = None
    gigabytes: float | None = None
    fits: str = ""

    @property
    def flops(self) -> float:
        """Operations of the whole run."""
        return self.flops_a_clip * self.clips


def price(
    run: PlannedRun,
    config: PretrainSettings,
    chip: Chip | None = None,
    host_chips: int = 1,
    mfu: float = MFU,
    fits: str = "",
) -> Price:
    """What a run costs.

    Args:
        run: the run.
        config: its settings.
        chip: the accelerator; None leaves out what depends on it.
        host_chips: number of them in a host.
        mfu: share of the chip's peak rate that the model's operations reach.
        fits: see `Price`.
    """
    a_clip = sum(flops(config.model, config.masks).training.values())
    parameters = count_parameters(config.model, config.masks)
    clips = run.new_steps * config.batch
    if chip is None:
        return Price(parameters, a_clip, clips, fits=fits)
    chip_rate = chip.flops * mfu / a_clip
    return Price(
        parameters,
        a_clip,
        clips,
        chip_hours=clips / chip_rate / 3600,
        cores=chip_rate * host_chips / SAMPLES_A_CORE,
        gigabytes=chip_rate * host_chips * MB_A_SAMPLE / 1e3,
        fits=fits,
    )


@functools.lru_cache
def count_parameters(model: ModelConfig, masks: MaskConfig) -> int:
    """Number of parameters, counted once for all runs of one model: a second each."""
    return shapes.pretrain_parameters(model, masks)


def chip_of(topology: str) -> Chip:
    """The chip of a topology.

    Raises:
        ValueError: one line: there is no such chip.
    """
    kind, colon, _ = topology.partition(":")
    if kind not in _NAMES or not colon:
        raise ValueError(
            f"--topology={topology}: give a chip and its network, such as v5e:16x16 or h200:2x8; chips are "
            f"{', '.join(_NAMES)}"
        )
    return next(chip for chip in CHIPS if chip.name == _NAMES[kind])


def host_chips(topology: str) -> int:
    """Number of chips of a host of a topology, such as `v5e:16x16` or, of GPUs, `h200:2x8`."""
    kind, _, network = topology.partition(":")
    return HOST_CHIPS[kind] if kind in HOST_CHIPS else int(network.rpartition("x")[2])


def table(
    runs: Sequence[PlannedRun], prices: Mapping[str, Price], topology: str, mfu: float
) -> Iterator[str]:
    """Lines of a table of prices, a run a line, and the sum.

    Args:
        runs: the runs of a study.
        prices: name of a run → its price.
        topology: the chips; empty if no chip is given.
        mfu: share of their peak rate.
    """
    width = max(len(run.name) for run in runs)
    columns = f"{'M params':>9} {'GFLOP/clip':>10} {'steps':>9} {'clips':>13} {'PFLOP':>11}"
    of_chip = f" {'chip-hours':>10} {'cores/host':>10} {'GB/s/host':>9}  fits" if topology else ""
    yield f"{'run':{width}} {columns}{of_chip}"
    for run in runs:
        yield f"{run.name:{width}} {_cells(run, prices[run.name])}"
    clips, operations = (sum(getattr(one, name) for one in prices.values()) for name in ("clips", "flops"))
    steps = sum(run.new_steps for run in runs)
    line = f"{'all':{width}} {'':>9} {'':>10} {steps:>9,} {clips:>13,} {operations / 1e15:>11,.3g}"
    if topology:
        line += f" {sum(one.chip_hours or 0 for one in prices.values()):>10,.3g}"
    yield line
    if topology:
        yield f"chip-hours, cores and GB/s at {mfu:.0%} of the peak rate of {topology}"
    if branches := sum(run.trunk is not None for run in runs):
        yield f"{branches} runs branch off others; their steps are those after the branch"


def _cells(run: PlannedRun, one: Price) -> str:
    line = (
        f"{one.parameters / 1e6:>9.2f} {one.flops_a_clip / 1e9:>10.3g} {run.new_steps:>9,} {one.clips:>13,} "
        f"{one.flops / 1e15:>11.3g}"
    )
    if one.chip_hours is not None:
        line += f" {one.chip_hours:>10.3g} {one.cores:>10.0f} {one.gigabytes:>9.2g}  {one.fits}"
    return line + (f"  unfit: {run.unfit}" if run.unfit else "")
