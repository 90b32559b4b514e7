"""The clips of one fold: those to train on, to choose the best epoch by, and to score."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.corpora import folds, protocols
from data_pipeline.corpora.folds import Fold
from data_pipeline.corpora.protocols import Protocol
from data_pipeline.corpora.shared_labels import shared_classes
from data_pipeline.format.finetune_sampling import FinetuneSampling
from data_pipeline.format.labelled_set import LabelledClip
from data_pipeline.reading.cache_settings import cache_of
from data_pipeline.reading.fixed_clips import ListedClips
from data_pipeline.reading.labelled import (
    VIEWS,
    Cutting,
    DrawnWindow,
    LabelledSource,
    RootedSet,
    View,
    read_sets,
)
from hicmae_jax.runs import unseen_tests
from hicmae_jax.settings.finetune_sections import LabelledDataConfig


@dataclasses.dataclass(frozen=True)
class Part:
    """Clips of a fold that are used for one purpose.

    Attributes:
        chosen: numbers of the clips, for each set.
        targets: float32[N, K], one-hot or the dimensions, over all sets in order.
    """

    chosen: tuple[np.ndarray, ...]
    targets: np.ndarray

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.targets)


class FoldData:
    """The labelled sets of a run, cut into the parts of its fold.

    Attributes:
        protocol: classes and folds of the first set.
        outputs: names of the classes or dimensions.
        sets: the sets.
        sampling: how samples are cut.
        train: clips to train on.
        validation: clips by which the best epoch is chosen.
        test: clips to score.
        flags: lines that must stand beside every score, such as a fold of another size than the protocol's.
        selection: in words, how the best epoch is chosen.

    Args:
        config: the labelled sets and the fold.
        frames: frames in a sample.
        seed: of the clips that are held out and of those that are used.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: sets, protocol and fold do not fit each other.
    """

    def __init__(self, config: LabelledDataConfig, frames: int, seed: int) -> None:
        self.config = config
        self.protocol = protocols.protocol(config.protocol)
        unseen_tests.check_union(config)
        self.sets = read_sets(config.sets, cache_of(config.cache, config.cache_gb))
        _check_dataset(self.sets[0], self.protocol)
        self.sampling = sampling_of(config, self.protocol, frames)
        clips = self.sets[0].about.clips
        self.outputs = folds.classes(self.protocol, clips)
        selection: Any = config.selection  # one of SELECTIONS, as the settings have checked
        fold = folds.split(self.protocol, clips, config.fold, selection, seed, config.validation_share)
        self.selection = folds.selection_rule(self.protocol, clips, selection)
        self._targets = _targets(self.protocol, clips)
        self.validation, self.test = self._part(fold.validation), self._part(fold.test)
        self.train = self._training(fold, seed)
        self.flags = [
            *folds.differences(self.protocol, clips),
            *(f"{name}: {n:,} clips could not be prepared" for name, n in self._rejected().items()),
        ]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Directory → fingerprint of each set."""
        return {str(labelled.root): labelled.about.fingerprint for labelled in self.sets}

    @property
    def classes(self) -> np.ndarray | None:
        """int[N], the class of each training clip; None for a regression."""
        return None if self.protocol.regression else self.train.targets.argmax(-1)

    def training_source(self) -> LabelledSource:
        """The training clips, in random windows."""
        return self._source(self.train, DrawnWindow(self.sampling, self.config.randaugment))

    def validation_clips(self, batch: int) -> ListedClips:
        """The validation clips, one window from the middle of each."""
        return self._listed(self.validation, DrawnWindow(self.sampling), batch)

    def test_views(self, batch: int) -> list[ListedClips]:
        """The test clips in each of their views."""
        return [self._listed(self.test, View(self.sampling, number), batch) for number in range(VIEWS)]

    def _listed(self, part: Part, cutting: Cutting, batch: int) -> ListedClips:
        return ListedClips(self._source(part, cutting), range(len(part)), batch, self.config.threads)

    def _source(self, part: Part, cutting: Cutting) -> LabelledSource:
        return LabelledSource(self.sets, [c.tolist() for c in part.chosen], cutting, self.sampling)

    def _part(self, chosen: np.ndarray) -> Part:
        """Clips of the first set only."""
        none = [np.zeros(0, np.int64) for _ in self.sets[1:]]
        return Part((chosen, *none), self._targets[chosen])

    def _training(self, fold: Fold, seed: int) -> Part:
        own = _subset(self.protocol, self.sets[0].about.clips, fold.train, self.config.labels_share, seed)
        chosen, targets = [own], [self._targets[own]]
        for labelled, name in zip(self.sets[1:], self.config.other_protocols, strict=True):
            other = protocols.protocol(name)
            _check_dataset(labelled, other)
            shared = shared_classes(self.protocol, other)
            theirs = folds.targets(other, labelled.about.clips)
            used = np.flatnonzero(np.isin(theirs, list(shared)))
            used = _subset(other, labelled.about.clips, used, self.config.labels_share, seed)
            chosen.append(used)
            numbers = np.array([shared[number] for number in theirs[used].tolist()], np.int64)
            targets.append(np.eye(len(self.outputs), dtype=np.float32)[numbers])
        return Part(tuple(chosen), np.concatenate(targets))

    def _rejected(self) -> dict[str, int]:
        return {
            labelled.about.dataset: rejected
            for labelled in self.sets
            if (rejected := sum(labelled.about.rejected.values()))
        }


def sampling_of(config: LabelledDataConfig, protocol: Protocol, frames: int) -> FinetuneSampling:
    """How a run cuts samples: in the stride that it was given, or in the protocol's."""
    return FinetuneSampling(frames, config.stride or protocol.stride)


def _targets(protocol: Protocol, clips: Sequence[LabelledClip]) -> np.ndarray:
    """float32[N, K]: one-hot, zeros for a clip that is left out; or the dimensions."""
    found = folds.targets(protocol, clips)
    if protocol.regression:
        return found
    # Class -1, of a clip that is left out, takes the last row.
    rows = np.eye(protocol.n_outputs + 1, protocol.n_outputs, dtype=np.float32)
    return rows[found]


def _subset(
    protocol: Protocol, clips: Sequence[LabelledClip], members: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """The same share of the members of each class, at least one of each, chosen by a hash of their names."""
    if share == 1:
        return members
    found = folds.targets(protocol, clips)
    kinds = np.zeros(len(clips), np.int64) if protocol.regression else found
    kept: list[int] = []
    for kind in np.unique(kinds[members]):
        names = {clips[i].name: int(i) for i in members if kinds[i] == kind}
        order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/labels/{name}".encode()).digest())
        kept += [names[name] for name in order[: max(1, round(share * len(order)))]]
    return np.array(sorted(kept), np.int64)


def _check_dataset(labelled: RootedSet, protocol: Protocol) -> None:
    if labelled.about.dataset != protocol.dataset:
        raise ValueError(
            f"{labelled.root} holds {labelled.about.dataset}, but {protocol.name} is a protocol of "
            f"{protocol.dataset}: choose another protocol or set"
        )
