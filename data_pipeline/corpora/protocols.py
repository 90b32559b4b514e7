"""The protocols of the emotion data sets: classes, folds, number of clips and published scores.

Sources: the paper's tables and the split files that were published with its code. `folds` makes the folds.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

SPEAKER, SESSION, OFFICIAL = "speaker", "session", "official"
TASK = "task"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is fine-tuned and scored on a data set.

    Attributes:
        name: of the protocol.
        dataset: of the data set; several protocols may share one.
        regression: whether the outputs are numbers.
        label: key of `LabelledClip.labels` that has the class; "" for regression.
        outputs: names of the classes in order, or of the dimensions, which are keys of
            `LabelledClip.labels`. Empty where only the data tell the classes (`unlisted_classes`).
        unlisted_classes: number of classes where `outputs` is empty; their order is that of sorted names.
        merged: label in the data → class, where they differ.
        left_out: labels of the data set that the protocol does not use. A clip with another label is an
            error.
        folds: number of test folds.
        fold_by: `SPEAKER` or `SESSION`: a rule on names decides; `OFFICIAL`: files of the data set decide.
        tested_folds: the folds that are scored.
        held_out_test: every fold is tested on the same held-out clips, and fold `k` is its validation part.
        clips: number of clips; 0: any number.
        fold_clips: number of clips in the test part of each fold, if known. They add up to `clips`, or else
            to what the published split files list, which lack some clips.
        metric: the score that the paper reports first.
        batch: of the published recipe, in clips.
        epochs: of the published recipe.
        stride: between two frames of a sample.
        averaged_over: `TASK`: scores are averaged over clips whose names share the first three fields.
        published: score → value in % of HiCMAE-B with sound and picture in the paper.
        reference: where the data come from, and on which terms.
    """

    name: str
    dataset: str
    regression: bool = False
    label: str = "emotion"
    outputs: tuple[str, ...]
    unlisted_classes: int = 0
    merged: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    left_out: tuple[str, ...] = ()
    folds: int
    fold_by: str
    tested_folds: tuple[int, ...] = ()
    held_out_test: bool = False
    clips: int
    fold_clips: tuple[int, ...] | None = None
    metric: str
    batch: int = 56
    epochs: int = 50
    stride: int = 4
    averaged_over: str | None = None
    published: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    reference: str

    def __post_init__(self) -> None:
        if not self.tested_folds:
            object.__setattr__(self, "tested_folds", tuple(range(1, self.folds + 1)))

    @property
    def n_outputs(self) -> int:
        """Number of classes or dimensions."""
        return len(self.outputs) or self.unlisted_classes


_CREMA_D = "github.com/CheyneyComputerScience/CREMA-D, Open Database License"
_MAFW = "mafw-database.github.io, on request, for research"
_AVCAFFE = "pritamqu.github.io/AVCAffe, on request, for research"
_MER = "merchallenge.cn, on request, for research"

_ALL = (
    Protocol(
        name="crema_d",
        dataset="crema_d",
        outputs=("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"),
        folds=5,
        fold_by=SPEAKER,
        clips=7_442,
        fold_clips=(1_463, 1_470, 1_476, 1_476, 1_557),
        metric="UAR",
        published={"UAR": 84.91, "WAR": 84.89},
        reference=_CREMA_D,
    ),
    Protocol(
        name="crema_d_4",
        dataset="crema_d",
        outputs=("ANG", "HAP", "NEU", "SAD"),
        left_out=("DIS", "FEA"),
        folds=5,
        fold_by=SPEAKER,
        tested_folds=(5,),
        clips=4_896,
        fold_clips=(963, 968, 971, 971, 1_023),
        metric="UAR",
        published={"UAR": 94.00, "WAR": 94.13},
        reference=_CREMA_D,
    ),
    Protocol(
        name="mafw_11",
        dataset="mafw",
        label="single",
        outputs=("AN", "DI", "FE", "HA", "NE", "SA", "SU", "CO", "AX", "HL", "DS"),
        folds=5,
        fold_by=OFFICIAL,
        clips=9_172,
        fold_clips=(1_836, 1_833, 1_827, 1_829, 1_831),
        metric="UAR",
        epochs=100,
        published={"UAR": 42.65, "WAR": 56.17},
        reference=_MAFW,
    ),
    Protocol(
        name="mafw_43",
        dataset="mafw",
        label="compound",
        outputs=(),
        unlisted_classes=43,
        folds=5,
        fold_by=OFFICIAL,
        clips=8_996,
        metric="UAR",
        epochs=100,
        published={"UAR": 13.29, "WAR": 37.36, "macro F1": 12.16, "AUC": 85.30},
        reference=_MAFW,
    ),
    Protocol(
        name="dfew",
        dataset="dfew",
        outputs=("happy", "sad", "neutral", "anger", "surprise", "disgust", "fear"),
        folds=5,
        fold_by=OFFICIAL,
        clips=11_697,
        metric="UAR",
        published={"UAR": 63.76, "WAR": 75.01},
        reference="dfew-dataset.github.io, on request, for research",
    ),
    Protocol(
        name="mer_multi",
        dataset="mer2023",
        outputs=("neutral", "anger", "happiness", "sadness", "worry", "surprise"),
        folds=5,
        fold_by=OFFICIAL,
        held_out_test=True,
        clips=3_784,
        metric="weighted F1",
        published={"UAR": 64.15, "weighted F1": 71.33},
        reference=_MER,
    ),
    Protocol(
        name="mer2024",
        dataset="mer2024",
        outputs=("neutral", "anger", "happiness", "sadness", "worry", "surprise"),
        folds=5,
        fold_by=OFFICIAL,
        held_out_test=True,
        clips=0,
        metric="weighted F1",
        reference=_MER,
    ),
    Protocol(
        name="msp_improv",
        dataset="msp_improv",
        outputs=("A", "H", "N", "S"),
        left_out=("O", "X"),
        folds=6,
        fold_by=SESSION,
        clips=7_798,
        fold_clips=(916, 1_328, 1_622, 1_044, 1_407, 1_470),
        metric="UAR",
        published={"UAR": 65.78, "WAR": 74.95},
        reference="ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html, on request, for research",
    ),
    Protocol(
        name="ravdess",
        dataset="ravdess",
        outputs=("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
        folds=6,
        fold_by=SPEAKER,
        clips=1_440,
        fold_clips=(240,) * 6,
        metric="UAR",
        published={"UAR": 87.96, "WAR": 87.99},
        reference="zenodo.org/records/1188976, CC BY-NC-SA 4.0; the speech part",
    ),
    Protocol(
        name="iemocap",
        dataset="iemocap",
        outputs=("anger", "neutral", "happiness", "sadness"),
        merged={"excitement": "happiness"},
        left_out=("frustration", "surprise", "fear", "disgust", "other", "undecided"),
        folds=5,
        fold_by=SESSION,
        clips=5_531,
        metric="UAR",
        published={"UAR": 68.21, "WAR": 68.36},
        reference="sail.usc.edu/iemocap, on request, for research",
    ),
    Protocol(
        name="werewolf_xl",
        dataset="werewolf_xl",
        regression=True,
        label="",
        outputs=("arousal", "valence", "dominance"),
        folds=5,
        fold_by=SPEAKER,
        clips=14_632,
        fold_clips=(3_346, 2_747, 3_066, 3_527, 1_771),
        metric="CCC",
        batch=128,  # 32 a process, four processes
        epochs=30,
        stride=3,
        published={
            "PCC arousal": 33.74,
            "PCC valence": 69.23,
            "PCC dominance": 40.66,
            "CCC arousal": 31.85,
            "CCC valence": 64.81,
            "CCC dominance": 37.54,
        },
        reference="Werewolf-XL (Zhang et al., IEEE Transactions on Affective Computing 2021), on request",
    ),
    Protocol(
        name="avcaffe_arousal",
        dataset="avcaffe",
        label="arousal",
        outputs=("0", "1", "2", "3", "4"),  # the scores are 1 to 4; the published head has five outputs
        folds=1,
        fold_by=OFFICIAL,
        clips=58_112,
        metric="weighted F1",
        averaged_over=TASK,
        published={"weighted F1": 43.18},
        reference=_AVCAFFE,
    ),
    Protocol(
        name="avcaffe_valence",
        dataset="avcaffe",
        label="valence",
        outputs=("0", "1", "2", "3", "4"),
        folds=1,
        fold_by=OFFICIAL,
        clips=58_112,
        metric="weighted F1",
        averaged_over=TASK,
        published={"weighted F1": 44.20},
        reference=_AVCAFFE,
    ),
    Protocol(
        name="made_up",
        dataset="made_up",
        outputs=("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"),
        folds=2,
        fold_by=SPEAKER,
        clips=0,
        metric="UAR",
        reference="synthetic clips of this project: launch.make_corpus --layout=made_up",
    ),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _ALL})
"""Name → protocol."""

DATASETS: tuple[str, ...] = tuple(dict.fromkeys(protocol.dataset for protocol in _ALL))
"""Names of the data sets."""


def protocols_of(dataset: str) -> tuple[Protocol, ...]:
    """Returns the protocols of a data set.

    Args:
        dataset: one of `DATASETS`.

    Raises:
        ValueError: there is no such data set.
    """
    found = tuple(protocol for protocol in _ALL if protocol.dataset == dataset)
    if not found:
        raise ValueError(f"{dataset!r} is not a data set that is known: choose one of {', '.join(DATASETS)}")
    return found


def protocol(name: str) -> Protocol:
    """Returns a protocol by its name.

    Raises:
        ValueError: there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"{name!r} is not a protocol: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
