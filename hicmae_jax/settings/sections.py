"""What a run does besides training: checkpoints, logs, evaluation, care for what goes wrong."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are written and how long they stay.

    Attributes:
        every: steps from one to the next.
        keep: how many of the latest stay.
        milestone: every so many steps one stays for good; None for no such.
    """

    every: int
    keep: int
    milestone: int | None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        at_least(1, every=self.every, keep=self.keep, milestone=self.milestone)
        if self.milestone and self.milestone % self.every:
            raise ValueError(
                f"milestone {self.milestone} is not a multiple of checkpoint.every {self.every}, when "
                "checkpoints are written"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What is written down of a run while it lasts.

    Attributes:
        every: steps from one line of metrics to the next.
        tensorboard: whether to write TensorBoard's files too.
        wandb: project of Weights & Biases to write to, empty for none.
        profile_step: first step to profile; None for no profile.
        profile_steps: how many.
    """

    every: int
    tensorboard: bool
    wandb: str
    profile_step: int | None
    profile_steps: int

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        at_least(1, every=self.every, profile_steps=self.profile_steps)
        at_least(0, profile_step=self.profile_step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What a model in training is scored on.

    Attributes:
        sets: directories of prepared sets, empty for no evaluation.
        clips: how many of their clips.
        every: steps from one evaluation to the next; None for one at the end.
        batch: clips at a time, over all hosts.
    """

    sets: tuple[str, ...]
    clips: int
    every: int | None
    batch: int

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        at_least(2, clips=self.clips)  # one clip is always its own nearest
        at_least(1, every=self.every, batch=self.batch)
        if self.every and not self.sets:
            raise ValueError(f"every {self.every} has nothing to evaluate on: name evaluation.sets")


LONGEST_MINUTES = 7 * 24 * 60
"""Timers of the system take no more than some hundred years, and nobody waits so long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    """What is done about a run that goes wrong.

    Attributes:
        skips: updates in a row that are skipped, for a loss or gradient that is not finite, before the run
            ends.
        spike: a loss is noted that is above the median of the last hundred by so many of their mean distances
            to it.
        slow: a step is noted that takes so many times the median.
        minutes: without any progress, after which the run ends.
    """

    skips: int
    spike: float
    slow: float
    minutes: float

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        at_least(1, skips=self.skips)
        for name in ("spike", "slow", "minutes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} is not above 0")
        if self.minutes > LONGEST_MINUTES:
            raise ValueError(f"minutes {self.minutes} is more than {LONGEST_MINUTES}, a week")


def at_least(least: int, **numbers: int | None) -> None:
    """Refuse numbers below `least`; None passes.

    Raises:
        ValueError: naming the number.
    """
    for name, number in numbers.items():
        if number is not None and number < least:
            raise ValueError(f"{name} {number} is not at least {least}")
