"""The sections of settings that only fine-tuning has: weights, labelled data, what is trained, scores."""

import dataclasses

from data_pipeline.common.cores import usable_cores
from data_pipeline.common.setting import check_limits, setting
from data_pipeline.reading.cache_settings import CACHE, CACHE_GB, check_cache

SELECTIONS = ("honest", "published")
MODES = ("full", "frozen", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitialConfig:
    """The weights that a fine-tuning run begins with (paper section 3.4).

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    weights: str = setting(
        "",
        "a run of pre-training or fine-tuning, one of its checkpoints, or a .safetensors or .pth file; its "
        "encoders and fusion are taken, the head is new; empty trains from scratch",
    )
    step: int | None = setting(None, "which checkpoint of the run; none takes the last", at_least=0)
    best: bool = setting(False, "take the run's checkpoint of the best validation score, instead of the last")

    def __post_init__(self) -> None:
        """Check that there is something to choose from."""
        check_limits(self)
        if not self.weights and (self.step is not None or self.best):
            raise ValueError("weights is empty, so step and best choose nothing: name a run")
        if self.best and self.step is not None:
            raise ValueError(f"best and step {self.step} are both given: leave one out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledDataConfig:
    """The labelled sets, the fold, and how clips are read.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    sets: tuple[str, ...] = setting((), "directories of labelled sets; the first one's test clips are scored")
    protocol: str = setting(
        "made_up", "classes and folds of the first set: a name that launch.protocols lists"
    )
    other_protocols: tuple[str, ...] = setting(
        (),
        "for a union: the protocol of each further set; its clips with an emotion that the first protocol "
        "has too are trained on in every fold",
    )
    fold: int = setting(1, "which fold is tested", at_least=1)
    selection: str = setting(
        "honest",
        "what chooses the best epoch: speakers held out of the training folds (honest), or the test fold "
        "itself, as the published code does (published)",
        choices=SELECTIONS,
    )
    validation_share: float = setting(
        0.15, "share of the training clips to hold out, in whole speakers, if honest", above=0, below=1
    )
    labels_share: float = setting(
        1.0, "share of the training clips that is used, the same share of each class", above=0, at_most=1
    )
    stride: int | None = setting(
        None,
        "frames from one frame of a sample to the next; none as the protocol says",
        at_least=1,
    )
    randaugment: bool = setting(True, "change training frames by RandAugment, with Pillow's operations")
    balanced: bool = setting(False, "draw each class equally often")
    threads: int = setting(usable_cores(), "clips that each process reads at a time", at_least=1)
    workers: int = setting(0, "processes that read; 0 reads in the training process", at_least=0)
    prefetch: int = setting(2, "batches that each process reads ahead", at_least=1)
    cache: str = setting("", CACHE)
    cache_gb: float = setting(0.0, CACHE_GB, at_least=0)

    def __post_init__(self) -> None:
        """Check the numbers, and that each further set has a protocol."""
        check_limits(self)
        check_cache(self.cache, self.cache_gb)
        if not self.sets:
            raise ValueError("sets is empty: name the directory that launch.prepare --dataset=… has made")
        if len(set(self.sets)) < len(self.sets):
            raise ValueError(f"sets {self.sets} names a set twice")
        if len(self.other_protocols) != len(self.sets) - 1:
            raise ValueError(
                f"other_protocols {self.other_protocols}: give one for each of the {len(self.sets) - 1} sets "
                "after the first"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """Which parameters are trained, and for which modalities.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    mode: str = setting(
        "full",
        "train everything; or keep encoders and fusion frozen; or train only the linear head. Without "
        "training them, drop-path is off",
        choices=MODES,
    )
    modality_dropout: float = setting(
        0.0,
        "share of training clips that lose one modality, either equally often, so that the model also works "
        "where one is missing",
        at_least=0,
        below=1,
    )

    def __post_init__(self) -> None:
        """Check the choices."""
        check_limits(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Validation during training, and the scores of the test clips after it.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    epochs: int = setting(1, "epochs from one validation to the next", at_least=1)
    batch: int = setting(32, "clips computed at a time, over all hosts", at_least=1)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_limits(self)
