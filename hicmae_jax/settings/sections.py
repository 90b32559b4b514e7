"""The settings of a run that are not of model, objective, data or optimiser."""

import dataclasses

from data_pipeline.common.setting import check_limits, setting
from hicmae_jax.model import sizes
from hicmae_jax.model.config import MaskConfig
from hicmae_jax.settings import best_score

LARGEST_SEED = 2**32 - 1
"""The keys of JAX wrap around beyond it."""


LONGEST_MINUTES = 7 * 24 * 60
"""A week. The timers of the system have a limit too, of some hundred years."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralConfig:
    """The settings that belong to no section.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    size: str = setting(
        "B", "of the model; other settings of `model` may differ from it", choices=(*sizes.SIZES,)
    )
    seed: int = setting(
        0, "of parameters, order of clips, augmentation and masks", at_least=0, at_most=LARGEST_SEED
    )
    batch: int = setting(
        160,
        "clips in an update, over all hosts and micro-batches; published: 4 × 40 in pre-training, 4 × 14 in "
        "fine-tuning",
        at_least=1,
    )
    epochs: int | None = setting(
        100, "length in passes over the data; none where `steps` says it", at_least=1
    )
    warmup_epochs: int | None = setting(5, "linear warm-up in passes over the data")
    steps: int | None = setting(None, "length in updates; none where `epochs` says it", at_least=1)
    warmup_steps: int | None = setting(None, "linear warm-up in updates")
    warmup_examples: int | None = setting(
        None, "linear warm-up in clips, the same at any batch, instead of those two", at_least=0
    )
    accumulate: int = setting(
        1,
        "micro-batches in an update, for a batch that does not fit into memory; the update is the same, but "
        "mixup and cutmix then join clips of one micro-batch",
        at_least=1,
    )
    fsdp: int = setting(1, "devices that share one copy of parameters and optimiser state", at_least=1)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_limits(self)
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} is not a multiple of accumulate {self.accumulate}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are written, and how long they stay.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    every: int = setting(
        1000, "steps from one checkpoint to the next: what an unannounced stop can cost", at_least=1
    )
    minutes: float | None = setting(
        None,
        "a checkpoint is also written when the last one is so many minutes old; none for no such",
        above=0,
        at_most=LONGEST_MINUTES,
    )
    keep: int = setting(3, "how many of the latest checkpoints stay", at_least=1)
    milestone: int | None = setting(
        None, "steps from one checkpoint that stays for good to the next; none keeps no such", at_least=1
    )
    branches: tuple[int, ...] = setting(
        (), "further steps at which a checkpoint is written that stays for good, for runs that branch off"
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_limits(self)
        if any(step < 1 for step in self.branches):
            raise ValueError(f"branches {self.branches}: each step must be at least 1")
        if self.milestone and self.milestone % self.every:
            raise ValueError(
                f"milestone {self.milestone} is not a multiple of checkpoint.every {self.every}, when "
                "checkpoints are written"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig:
    """The logs of a run: metrics, TensorBoard, Weights & Biases and profile.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    every: int = setting(50, "steps from one line of metrics to the next", at_least=1)
    by_set: bool = setting(
        False,
        "log the losses of reconstruction of each of several data.sets, and of each of several "
        "evaluation.sets, too",
    )
    tensorboard: bool = setting(False, "write TensorBoard's files too")
    wandb: str = setting("", "Weights & Biases project to write to; empty for none")
    profile_step: int | None = setting(
        None, "first step to profile, after compilation; none for no profile", at_least=0
    )
    profile_steps: int = setting(3, "steps to profile", at_least=1)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_limits(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The evaluation of the model during training.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    sets: tuple[str, ...] = setting((), "directories of prepared sets to score on; empty for no evaluation")
    # With one clip the nearest is always the clip itself.
    clips: int = setting(64, "how many of their clips", at_least=2)
    every: int | None = setting(
        None, "steps from one evaluation to the next; none for one at the end", at_least=1
    )
    batch: int = setting(32, "clips computed at a time, over all hosts", at_least=1)
    video_ratio: float | None = setting(
        None,
        "masks.video_ratio of their losses, to compare runs that train with different ones; none as in "
        "training",
    )
    audio_ratio: float | None = setting(None, "the same for masks.audio_ratio")
    picture_every: int | None = setting(
        None,
        "steps from one picture of rebuilt clips of the sets to the next, the last one at the end; none for "
        "no picture",
        at_least=1,
    )
    labelled: str = setting(
        "", "directory of a labelled set, to tell its emotions from the features; empty for no probe"
    )
    protocol: str = setting(
        "", "classes and folds of the labelled set; empty takes the first protocol of its data set"
    )
    # At least two clips to fit and one to score.
    labelled_clips: int = setting(
        512, "how many clips of fold 1 the probes use: two thirds to fit, a third to score", at_least=3
    )
    probe_every: int | None = setting(
        None, "steps from one probe to the next; none for one at the end", at_least=1
    )
    best: str = setting(
        "", "score by which the best checkpoint stays too, such as probe/linear_uar; empty for none"
    )

    def __post_init__(self) -> None:
        """Check the numbers, and that each evaluation has its data."""
        check_limits(self)
        for name, what in (("every", "evaluate on"), ("picture_every", "draw")):
            if getattr(self, name) and not self.sets:
                raise ValueError(f"{name} {getattr(self, name)} has nothing to {what}: name evaluation.sets")
        for name in ("probe_every", "protocol"):
            if getattr(self, name) and not self.labelled:
                raise ValueError(
                    f"{name} {getattr(self, name)} has no labelled set: name evaluation.labelled"
                )
        if self.best:
            best_score.mode(self.best)
            needs = "labelled" if self.best.startswith("probe/") else "sets"
            if not getattr(self, needs):
                raise ValueError(f"best {self.best} is never scored: name evaluation.{needs}")

    def masks(self, trained: MaskConfig) -> MaskConfig:
        """The masks of held-out clips: every masked token is decoded, whatever part of them training decodes.

        Args:
            trained: the masks of the run.

        Returns:
            The same kinds of masks, with the ratios that are given here.
        """
        return dataclasses.replace(
            trained,
            video_ratio=trained.video_ratio if self.video_ratio is None else self.video_ratio,
            audio_ratio=trained.audio_ratio if self.audio_ratio is None else self.audio_ratio,
            video_decode_fraction=1.0,
            audio_decode_fraction=1.0,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    """Which faults a run reports, and when it gives up.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    skips: int = setting(
        10,
        "updates in a row that are skipped, because loss or gradient is not finite, before the run ends",
        at_least=1,
    )
    spike: float = setting(
        10.0,
        "report a loss more than this many mean absolute deviations above the median of the last 100",
        above=0,
    )
    slow: float = setting(10.0, "report a step that takes more than this many times the median", above=0)
    minutes: float = setting(
        30.0,
        "without any progress, after which the run ends and writes the stacks of its threads",
        above=0,
        at_most=LONGEST_MINUTES,
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_limits(self)
