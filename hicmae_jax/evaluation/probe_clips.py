"""The labelled clips of a probe: which ones it is fitted to, and which other ones it is scored on.

All are of fold 1 of a protocol. Those to fit are of its training part. Those to score are of its validation
part: speakers that are held out of the training part, or a part that the data set has for this purpose. So
nothing is chosen by the test clips, on which fine-tuned models are compared.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath

from data_pipeline.corpora import folds, protocols
from data_pipeline.corpora.folds import Fold
from data_pipeline.corpora.protocols import Protocol
from data_pipeline.format.finetune_sampling import FinetuneSampling
from data_pipeline.format.labelled_set import LabelledClip
from data_pipeline.reading.fixed_clips import ListedClips
from data_pipeline.reading.labelled import DrawnWindow, LabelledSource, RootedSet, read_sets
from data_pipeline.reading.shard_cache import ShardCache

FOLD = 1
SCORED_SHARE = 1 / 3
"""Of the clips of a probe, as nearly as whole speakers allow."""


@dataclasses.dataclass(frozen=True)
class ProbeClips:
    """The clips of a probe.

    Attributes:
        clips: first those to fit, then those to score; the middle of each, not augmented.
        classes: int32[N], the class of each clip, by example id.
        fitted: number of those to fit.
        n_classes: number of classes of the protocol.
        about: in words, which clips these are.
        root: directory of the set.
        fingerprint: of the set.
    """

    clips: ListedClips
    classes: np.ndarray
    fitted: int
    n_classes: int
    about: str
    root: str
    fingerprint: str


def probe_clips(
    root: epath.PathLike,
    protocol: str,
    count: int,
    sampling: FinetuneSampling,
    batch: int,
    threads: int = 1,
    cache: ShardCache | None = None,
) -> ProbeClips:
    """Choose the clips of a probe and open their set.

    Args:
        root: directory of a labelled set.
        protocol: name of a protocol of its data set; empty takes the first one.
        count: how many clips to take at most.
        sampling: how samples are cut.
        batch: number of clips in a batch.
        threads: number of clips to read at a time.
        cache: where shards of a set in a bucket are put.

    Raises:
        FileNotFoundError: the set is missing or unfinished, or is one for pre-training.
        ValueError: the protocol is of another data set or of a regression, or the clips have no labels, one
            class only, or are fewer than the classes.
    """
    (labelled,) = read_sets([root], cache)
    chosen = _protocol(protocol, labelled)
    known = labelled.about.clips
    classes = folds.targets(chosen, known)
    if not (classes >= 0).any():
        raise ValueError(f"{root}: no clip has a label {chosen.label!r} of {chosen.name}: choose another set")
    fold, rule = _fold(chosen, known)
    n_scored = min(len(fold.validation), int(count * SCORED_SHARE))
    fit = spread(fold.train, classes, count - n_scored)
    scored = spread(fold.validation, classes, count - len(fit))
    _check_classes(chosen, known, classes[fold.train], classes[fit])
    used = np.concatenate([fit, scored])
    source = LabelledSource([labelled], [used.tolist()], DrawnWindow(sampling), sampling)
    return ProbeClips(
        clips=ListedClips(source, range(len(used)), batch, threads),
        classes=classes[used],
        fitted=len(fit),
        n_classes=len(folds.classes(chosen, known)),
        about=f"{chosen.name} fold {FOLD}: {len(fit):,} clips to fit, {len(scored):,} to score, {rule}",
        root=str(root),
        fingerprint=labelled.about.fingerprint,
    )


def spread(part: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Choose clips of a part of a fold: the same share of every class, evenly spaced in each.

    Args:
        part: int64[N], numbers of clips, in order.
        classes: int32[M], the class of every clip of the set.
        count: how many to choose; all, if there are not more.

    Returns:
        Their numbers in order.
    """
    count = min(count, len(part))
    by_class = part[np.argsort(classes[part], kind="stable")]
    return np.sort(by_class[np.arange(count) * len(part) // count])


def _protocol(name: str, labelled: RootedSet) -> Protocol:
    dataset = labelled.about.dataset
    chosen = protocols.protocol(name) if name else protocols.protocols_of(dataset)[0]
    if chosen.dataset != dataset:
        raise ValueError(
            f"{labelled.root} holds {dataset}, but evaluation.protocol {chosen.name} is a protocol of "
            f"{chosen.dataset}: choose another protocol or set"
        )
    if chosen.regression:
        raise ValueError(
            f"{labelled.root}: {chosen.name} has numbers ({', '.join(chosen.outputs)}), and a probe needs "
            "classes: choose another protocol or set"
        )
    return chosen


def _fold(protocol: Protocol, clips: Sequence[LabelledClip]) -> tuple[Fold, str]:
    """The parts of the fold, and in words what the validation part is."""
    try:
        fold = folds.split(protocol, clips, FOLD, "honest", validation_share=SCORED_SHARE)
    except ValueError:
        # The training part has one speaker, who cannot be held out. Another mistake is found again.
        fold = folds.split(protocol, clips, FOLD, "published")
        return fold, "on the test part, because its training part has one speaker"
    return fold, folds.selection_rule(protocol, clips, "honest")


def _check_classes(
    protocol: Protocol, clips: Sequence[LabelledClip], there: np.ndarray, fitted: np.ndarray
) -> None:
    """Refuse clips to fit that are of one class, or fewer than the classes of the training part."""
    names = folds.classes(protocol, clips)
    found = np.unique(there)
    if len(found) < 2:
        raise ValueError(
            f"all clips of fold {FOLD} of {protocol.name} to fit are of one class, {names[found[0]]}: "
            "a probe needs two"
        )
    if len(fitted) < len(found):
        raise ValueError(
            f"evaluation.labelled_clips: {len(fitted)} clips to fit are fewer than the {len(found)} classes "
            f"of {protocol.name}: take more"
        )
