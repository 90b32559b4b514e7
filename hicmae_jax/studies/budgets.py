"""Runs of several lengths for little more than the price of the longest: decays that branch off one run.

With the schedule `wsd` a run has a stable rate until its decay begins, so a shorter run begins with the same
steps as a longer one. The longest run saves a checkpoint wherever a shorter run begins to decay; each shorter
run begins with that checkpoint and only decays. It ends with the same bits as if it had been trained from the
start (see `runs.branching`).

A decay of few steps ends at a higher loss than the length of the run is worth, which misleads a law (Hägele
et al. 2024, arXiv 2405.18392, find that a decay of 10 to 20 % of the steps suffices in long runs). So a decay
has a least number of steps besides its share, and runs that are too short for it are marked unfit.
"""

import dataclasses
from collections.abc import Sequence

from hicmae_jax.studies.plan import PlannedRun

WSD = "wsd"


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How long the runs of one point of the grid are.

    Attributes:
        setting: `steps` or `epochs`, the unit of the budgets.
        budgets: lengths in that unit, ascending.
        steps: number of steps of each budget.
        warmup: steps of the warm-up.
        share: share of all steps in which the rate decays.
        least: least number of steps of a decay.
    """

    setting: str
    budgets: tuple[int, ...]
    steps: tuple[int, ...]
    warmup: int
    share: float
    least: int

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: the budgets do not ascend, or the shortest has no step after the warm-up.
        """
        if list(self.budgets) != sorted(set(self.budgets)) or not self.budgets:
            raise ValueError(f"--budgets={','.join(map(str, self.budgets))}: give ascending lengths")
        if self.steps[0] <= self.warmup + 1:
            raise ValueError(
                f"--budgets: {self.budgets[0]} {self.setting} are {self.steps[0]} steps, of which the "
                f"warm-up takes {self.warmup}: warm up for fewer, or give longer budgets"
            )

    def decay(self, steps: int) -> int:
        """Steps of the decay of a run: its share or the least number, and no more than follow the warm-up."""
        return min(max(round(self.share * steps), self.least), steps - self.warmup - 1)

    def unfit(self, steps: int) -> str | None:
        """Why a law must not be fitted to a run of so many steps; None if it may be."""
        decay = self.decay(steps)
        if decay >= self.least:
            return None
        return f"its decay has {decay} steps, fewer than {self.least}"


def branch_off(run: PlannedRun, lengths: Lengths) -> list[PlannedRun]:
    """The longest run, and one branch for each shorter budget.

    Args:
        run: a run without length.
        lengths: the budgets.
    """
    *shorter, longest = zip(lengths.budgets, lengths.steps, strict=True)
    branches = [_branch(run, lengths, budget, steps, longest[0]) for budget, steps in shorter]
    saved = sorted({branch.branch_step for branch in branches if branch.branch_step is not None})
    trunk = _of_length(run, lengths, *longest)
    if saved:
        kept = f"({', '.join(map(str, saved))},)"
        trunk = dataclasses.replace(trunk, settings={**trunk.settings, "checkpoint.branches": kept})
    return [trunk, *branches]


def name_of_length(run: PlannedRun, setting: str, budget: int) -> str:
    """Name of the run of one budget."""
    return f"{run.name},{setting}={budget}".removeprefix("run,")


def _branch(run: PlannedRun, lengths: Lengths, budget: int, steps: int, longest: int) -> PlannedRun:
    return dataclasses.replace(
        _of_length(run, lengths, budget, steps),
        kind="branch",
        trunk=name_of_length(run, lengths.setting, longest),
        branch_step=steps - lengths.decay(steps),
    )


def _of_length(run: PlannedRun, lengths: Lengths, budget: int, steps: int) -> PlannedRun:
    settings = {
        **run.settings,
        lengths.setting: str(budget),
        "optimizer.schedule": WSD,
        # Exactly the steps of the decay, whatever the rounding of a share.
        "optimizer.decay_share": repr(lengths.decay(steps) / steps),
    }
    return dataclasses.replace(
        run,
        name=name_of_length(run, lengths.setting, budget),
        settings=settings,
        steps=steps,
        unfit=lengths.unfit(steps),
    )


def parse(text: Sequence[str]) -> tuple[int, ...]:
    """Read `--budgets`.

    Raises:
        ValueError: one line: a budget that is no positive whole number.
    """
    try:
        found = tuple(int(word) for word in text)
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ValueError(
            f"--budgets={','.join(text)}: give whole numbers of epochs or steps, such as 25,50,100"
        )
    return found
