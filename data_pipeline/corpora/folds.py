"""Makes the folds of a protocol: which clips a fold trains on, selects the best epoch by, and is tested on.

A rule on the speaker's or session's number decides (CREMA-D, RAVDESS, Werewolf-XL, MSP-IMPROV, IEMOCAP), or
the files that come with a data set (`LabelledClip.folds`). The rules are those of the published split files.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from data_pipeline.corpora.protocols import OFFICIAL, Protocol
from data_pipeline.format.labelled_set import HELD_OUT, TRAIN, LabelledClip

Selection = Literal["published", "honest"]
"""How the best epoch is chosen: on the test fold, as the published code does, or on speakers held out of the
training part."""

NEVER_TESTED, NEVER_TRAINED, LEFT_OUT = 0, -1, -2
"""Instead of the number of a fold: in the training part of all folds, in that of none, or not used at all."""

_OF_NUMBER: Mapping[str, tuple[range, Callable[[int], int]]] = {
    "crema_d": (range(1001, 1092), lambda actor: min((actor - 1001) // 18, 4) + 1),
    "ravdess": (range(1, 25), lambda actor: (actor - 1) // 4 + 1),
    "werewolf_xl": (range(1, 31), lambda prefix: (prefix - 1) // 6 + 1),
    "msp_improv": (range(1, 7), lambda session: session),
    "iemocap": (range(1, 6), lambda session: session),
}
"""Data set → the numbers that its speakers or sessions may have, and the fold of each (published code)."""


_PUBLISHED_ON_TEST = frozenset({"mafw", "crema_d", "ravdess", "werewolf_xl", "avcaffe", "msp_improv"})
"""Data sets whose test fold is the validation list of the published code; DFEW, IEMOCAP and MER have other
lists there."""


class Fold(NamedTuple):
    """The parts of a fold: indices into the clips of the set, int64, in order.

    Attributes:
        number: of the fold, from 1.
        train: clips to train on.
        validation: clips by which the best epoch is chosen.
        test: clips to score.
    """

    number: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    protocol: Protocol,
    clips: Sequence[LabelledClip],
    fold: int,
    selection: Selection,
    seed: int = 0,
    validation_share: float = 0.15,
) -> Fold:
    """Returns the parts of a fold.

    Args:
        protocol: of the data set.
        clips: all clips of the set.
        fold: number of the fold, from 1.
        selection: "published": the test part is also the validation part. "honest": the validation part is
            taken out of the training part; see `selection_rule`. A protocol with a held-out test part has a
            validation part of its own, fold `fold`, whichever is chosen.
        seed: of the speakers that are held out for validation.
        validation_share: of the training clips; as many speakers are held out as come nearest to it, at
            least one.

    Raises:
        ValueError: the fold does not exist, a part is empty, or `check` finds a mistake.
    """
    if not 1 <= fold <= protocol.folds:
        raise ValueError(f"{protocol.name} has folds 1 to {protocol.folds}: there is no fold {fold}")
    if selection not in ("published", "honest"):
        raise ValueError(f"selection {selection!r} is not known: choose published or honest")
    numbers = fold_numbers(protocol, clips)
    tested = np.flatnonzero(numbers == fold)
    train = np.flatnonzero((numbers != fold) & (numbers >= NEVER_TESTED))
    if protocol.held_out_test:
        validation, test = tested, np.flatnonzero(numbers == NEVER_TRAINED)
    elif selection == "published":
        validation, test = tested, tested
    else:
        validation, test = _held_out(protocol, clips, train, seed, validation_share), tested
        train = np.setdiff1d(train, validation)
    for part, indices in (("training", train), ("validation", validation), ("test", test)):
        if not len(indices):
            raise ValueError(f"{protocol.name} fold {fold}: the {part} part has no clip of {len(clips)}")
    return Fold(fold, train, validation, test)


def fold_numbers(protocol: Protocol, clips: Sequence[LabelledClip]) -> np.ndarray:
    """Returns the fold whose test part has each clip.

    Args:
        protocol: of the data set.
        clips: all clips of the set.

    Returns:
        int64[N]: from 1, or `NEVER_TESTED`, `NEVER_TRAINED` or `LEFT_OUT`.

    Raises:
        ValueError: `check` finds a mistake.
    """
    check(protocol, clips)
    used = [_is_used(protocol, clip) for clip in clips]
    if protocol.fold_by == OFFICIAL:
        words = {TRAIN: NEVER_TESTED, HELD_OUT: NEVER_TRAINED}
        found = [clip.folds.get(protocol.name, "") for clip in clips]
        numbers = [words[fold] if fold in words else int(fold or LEFT_OUT) for fold in found]
    elif protocol.dataset in _OF_NUMBER:
        _, rule = _OF_NUMBER[protocol.dataset]
        numbers = [rule(_number(clip)) for clip in clips]
    else:
        numbers = _alternate(protocol, clips)
    return np.where(used, np.array(numbers, np.int64), LEFT_OUT).astype(np.int64)


def classes(protocol: Protocol, clips: Sequence[LabelledClip]) -> tuple[str, ...]:
    """Returns the names of the classes in order, or of the dimensions.

    Where the protocol does not list them, they are the sorted labels of the clips.
    """
    if protocol.outputs:
        return protocol.outputs
    return tuple(
        sorted({str(clip.labels[protocol.label]) for clip in clips if protocol.label in clip.labels})
    )


def targets(protocol: Protocol, clips: Sequence[LabelledClip]) -> np.ndarray:
    """Returns what a model shall predict for each clip.

    Returns:
        int32[N], number of the class, -1 for a clip that the protocol leaves out; or for regression
        float32[N, D], NaN for such a clip.
    """
    if protocol.regression:
        nothing = (np.nan,) * len(protocol.outputs)
        rows = [
            tuple(float(clip.labels[name]) for name in protocol.outputs)
            if _is_used(protocol, clip)
            else nothing
            for clip in clips
        ]
        return np.array(rows, np.float32).reshape(len(clips), len(protocol.outputs))
    numbers = {name: number for number, name in enumerate(classes(protocol, clips))}
    return np.array([numbers.get(_class(protocol, clip) or "", -1) for clip in clips], np.int32)


def selection_rule(protocol: Protocol, clips: Sequence[LabelledClip], selection: Selection) -> str:
    """Returns in words how the validation part is chosen, for tables."""
    if protocol.held_out_test:
        return "on the fold's own validation part; the test part is the same for all folds"
    if selection == "published":
        as_published = ", as in the published code" if protocol.dataset in _PUBLISHED_ON_TEST else ""
        return f"on the test fold itself{as_published}"
    if all(clip.speaker for clip in clips):
        unit = "sessions" if protocol.fold_by == "session" else "speakers"
        return f"on {unit} held out of the training part"
    return "on clips held out of the training part, by class; who speaks is not known"


def differences(protocol: Protocol, clips: Sequence[LabelledClip]) -> list[str]:
    """Compares the numbers of clips with the protocol's.

    Returns:
        A line for each fold whose number differs, then one for all clips; empty if none does.
    """
    numbers = fold_numbers(protocol, clips)
    lines = []
    if protocol.fold_clips:
        whole = sum(protocol.fold_clips) == protocol.clips
        by = "the protocol has" if whole else "the published split file has"
        for fold, expected in enumerate(protocol.fold_clips, start=1):
            if (found := int(np.sum(numbers == fold))) != expected:
                lines.append(f"{protocol.name} fold {fold}: {found:,} clips, {by} {expected:,}")
    total = int(np.sum(numbers != LEFT_OUT))
    if protocol.clips and total != protocol.clips:
        lines.append(f"{protocol.name}: {total:,} clips, the protocol has {protocol.clips:,}")
    return lines


def check(protocol: Protocol, clips: Sequence[LabelledClip]) -> None:
    """Checks names, labels, speakers and folds.

    Raises:
        ValueError: a clip is there twice, its label is not known, its speaker's number is not one of the data
            set's, its fold does not exist, or the data do not have the protocol's number of classes.
    """
    for name, count in Counter(clip.name for clip in clips).items():
        if count > 1:
            raise ValueError(f"{protocol.dataset} clip {name} is listed {count} times: list it once")
    for clip in clips:
        _check_label(protocol, clip)
        _check_fold(protocol, clip)
    if not protocol.outputs and (found := len(classes(protocol, clips))) != protocol.unlisted_classes:
        raise ValueError(
            f"{protocol.name}: the clips have {found} classes of {protocol.label}, the protocol "
            f"{protocol.unlisted_classes}: prepare the set with all its labels"
        )


def _check_label(protocol: Protocol, clip: LabelledClip) -> None:
    if protocol.regression:
        given = [clip.labels.get(name) for name in protocol.outputs]
        if any(isinstance(value, str) or (value is not None and not np.isfinite(value)) for value in given):
            raise ValueError(f"{protocol.dataset} clip {clip.name}: {given} are not numbers")
        return
    label = _class(protocol, clip)
    known = {*protocol.outputs, *protocol.left_out}
    if protocol.outputs and label is not None and label not in known:
        raise ValueError(
            f"{protocol.dataset} clip {clip.name} has the label {label!r}: {protocol.name} knows "
            f"{', '.join((*protocol.outputs, *protocol.merged, *protocol.left_out))}"
        )


def _check_fold(protocol: Protocol, clip: LabelledClip) -> None:
    if protocol.fold_by == OFFICIAL:
        known = {TRAIN, HELD_OUT, *map(str, range(1, protocol.folds + 1))}
        if (fold := clip.folds.get(protocol.name)) is not None and fold not in known:
            raise ValueError(
                f"{protocol.dataset} clip {clip.name} is in fold {fold!r} of {protocol.name}, which has "
                f"folds 1 to {protocol.folds}, {TRAIN} and {HELD_OUT}"
            )
    elif not clip.speaker:
        raise ValueError(
            f"{protocol.dataset} clip {clip.name} has no {protocol.fold_by}, which decides its fold: "
            "give it one"
        )
    elif protocol.dataset in _OF_NUMBER and _number(clip) not in (allowed := _OF_NUMBER[protocol.dataset][0]):
        raise ValueError(
            f"{protocol.dataset} clip {clip.name} has the {protocol.fold_by} {clip.speaker!r}, whose number "
            f"is not in {allowed[0]} to {allowed[-1]}: check its name"
        )


def _class(protocol: Protocol, clip: LabelledClip) -> str | None:
    """Returns the class of a clip, merged; None if it has no such label."""
    label = clip.labels.get(protocol.label)
    return None if label is None else protocol.merged.get(str(label), str(label))


def _is_used(protocol: Protocol, clip: LabelledClip) -> bool:
    if protocol.regression:
        return all(name in clip.labels for name in protocol.outputs)
    return _class(protocol, clip) not in (None, *protocol.left_out)


def _number(clip: LabelledClip) -> int:
    """Returns the number of a speaker or session, such as 2 of "session2"; -1 without one."""
    digits = "".join(filter(str.isdecimal, clip.speaker))
    return int(digits) if digits else -1


def _alternate(protocol: Protocol, clips: Sequence[LabelledClip]) -> list[int]:
    """Returns folds of neighbouring speakers in sorted order, of equal numbers of speakers or one more."""
    speakers = sorted({clip.speaker for clip in clips})
    places = {speaker: place * protocol.folds // len(speakers) + 1 for place, speaker in enumerate(speakers)}
    return [places[clip.speaker] for clip in clips]


def _held_out(
    protocol: Protocol, clips: Sequence[LabelledClip], train: np.ndarray, seed: int, share: float
) -> np.ndarray:
    """Chooses validation clips out of the training part: whole speakers, in the order of a hash.

    Where a speaker is not known, clips are chosen instead, the same share of every class.
    """
    if not 0 < share < 1:
        raise ValueError(f"validation_share {share} must be between 0 and 1")
    if all(clips[index].speaker for index in train):
        counts = Counter(clips[index].speaker for index in train)
        if len(counts) < 2:
            raise ValueError(
                f"{protocol.name}: the training part has {len(counts)} {protocol.fold_by}, of which none can "
                "be held out for validation"
            )
        order = _by_hash(counts, seed)[:-1]
        held_clips = np.cumsum([counts[speaker] for speaker in order])
        n_speakers = int(np.argmin(np.abs(held_clips - share * len(train)))) + 1
        chosen = set(order[:n_speakers])
        return np.array([index for index in train if clips[index].speaker in chosen], np.int64)
    numbers = targets(protocol, clips) if not protocol.regression else np.zeros(len(clips), np.int32)
    held: list[int] = []
    for number in np.unique(numbers[train]):
        members = {clips[index].name: int(index) for index in train if numbers[index] == number}
        held += [members[name] for name in _by_hash(members, seed)[: round(share * len(members))]]
    return np.array(sorted(held), np.int64)


def _by_hash(names: Iterable[str], seed: int) -> list[str]:
    """Returns names in an order that looks random and depends only on the seed and each name."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
