"""Reads the folds that come with a data set: an annotation list for each part of each fold.

The directory holds ``split01/train.csv``, ``split01/test.csv`` and perhaps ``split01/val.csv``, then
``split02`` and so on, as the published code lays them out. The number of the fold is the number in the name
of the folder, whatever else the name says, or in the name of the file (``1_test.csv``). A protocol with one
fold needs no number. Lists end in ``.csv`` or ``.txt``, and their lines are those of `annotations`.
"""

import os
import re
from collections.abc import Sequence

from etils import epath

from data_pipeline.corpora.annotations import Rewrite, read_list
from data_pipeline.corpora.found_clip import FoundClip
from data_pipeline.corpora.protocols import OFFICIAL, Protocol, protocols_of
from data_pipeline.format.labelled_set import HELD_OUT, TRAIN

_PARTS = ("train", "val", "test")


def parse_splits(dataset: str, words: Sequence[str]) -> dict[str, str]:
    """Reads which directory has the lists of which protocol.

    Args:
        dataset: name of the data set.
        words: ``DIR`` if the data set has one protocol with such lists, else ``PROTOCOL=DIR`` each.

    Returns:
        Name of the protocol → directory.

    Raises:
        ValueError: the data set has no such protocol, or a word does not tell which.
    """
    official = [protocol.name for protocol in protocols_of(dataset) if protocol.fold_by == OFFICIAL]
    if words and not official:
        raise ValueError(
            f"--splits: names decide the folds of {dataset}: use --annotations for a list of clips"
        )
    found = {}
    for word in words:
        name, sign, directory = word.partition("=")
        if not sign and len(official) == 1:
            name, directory = official[0], word
        if name not in official or not directory:
            raise ValueError(f"--splits={word} must be PROTOCOL=DIR, with one of {', '.join(official)}")
        found[name] = directory
    return found


def read_splits(
    directory: epath.Path, protocol: Protocol, root: epath.Path, rewrites: Sequence[Rewrite] = ()
) -> list[FoundClip]:
    """Reads the lists of a protocol.

    A clip of a test list belongs to that fold. With a held-out test part, a clip of a test list is held out,
    and one of a val list belongs to that fold. Other val lists are not used. A clip of training lists alone
    is in the training part of every fold.

    Args:
        directory: holds the lists.
        protocol: whose folds they are.
        root: directory that relative paths in the lists are below.
        rewrites: of beginnings of paths.

    Returns:
        The clips, sorted by name, with their folds.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a line cannot be understood, or a clip is in lists that contradict each other.
    """
    lists = {
        (fold, part): read_list(path, protocol, root, rewrites)
        for (fold, part), path in _files(directory, protocol).items()
    }
    clips: dict[str, FoundClip] = {}
    folds: dict[str, str] = {}
    for (fold, part), listed in sorted(lists.items()):
        place = _place(protocol, fold, part)
        for clip in listed if place else ():
            _add(clips, clip, protocol)
            if folds.setdefault(clip.name, place) != place:
                raise ValueError(
                    f"{directory}: {clip.name} is in fold {folds[clip.name]} and in fold {place} of "
                    f"{protocol.name}: leave it in one list"
                )
    for (fold, part), listed in sorted(lists.items()):
        for clip in listed if part == "train" else ():
            _add(clips, clip, protocol)
            if folds.get(clip.name) in (str(fold), HELD_OUT):
                raise ValueError(
                    f"{directory}: {clip.name} is in the training part of fold {fold} of {protocol.name}, "
                    "and also in a part that must not be trained on: leave it in one list"
                )
    return [clips[name]._replace(folds={protocol.name: folds.get(name, TRAIN)}) for name in sorted(clips)]


def _add(clips: dict[str, FoundClip], clip: FoundClip, protocol: Protocol) -> None:
    known = clips.setdefault(clip.name, clip)
    if known.labels != clip.labels:
        raise ValueError(
            f"{protocol.name}: {clip.name} has {clip.labels} in one list and {known.labels} in another: "
            "correct one of them"
        )


def _place(protocol: Protocol, fold: int, part: str) -> str:
    """Returns the fold of the clips in a list, or "" if the list does not decide it."""
    if protocol.held_out_test:
        return {"test": HELD_OUT, "val": str(fold)}.get(part, "")
    return str(fold) if part == "test" else ""


def _files(directory: epath.Path, protocol: Protocol) -> dict[tuple[int, str], epath.Path]:
    """Returns the lists that are there, by number of the fold and part."""
    found: dict[tuple[int, str], epath.Path] = {}
    places = [directory, *sorted(path for path in _inside(directory) if path.is_dir())]
    for path in (file for place in places for file in sorted(_inside(place))):
        stem, suffix = os.path.splitext(path.name)
        parts = [part for part in _PARTS if part in stem.lower()]
        if suffix.lower() not in (".csv", ".txt") or len(parts) != 1:
            continue
        below = path.name if path.parent == directory else path.parent.name + path.name
        numbers = re.findall(r"\d+", below)
        fold = int(numbers[0]) if numbers else 1
        if not numbers and protocol.folds > 1:
            raise ValueError(f"{path} does not tell its fold: put it into a folder such as split01")
        if not 1 <= fold <= protocol.folds:
            raise ValueError(f"{path} is of fold {fold}, and {protocol.name} has folds 1 to {protocol.folds}")
        if (fold, parts[0]) in found:
            raise ValueError(f"{path} and {found[fold, parts[0]]} are the same part of fold {fold}: keep one")
        found[fold, parts[0]] = path
    needed = ("train", "val", "test") if protocol.held_out_test else ("train", "test")
    for fold in range(1, protocol.folds + 1):
        for part in needed:
            if (fold, part) not in found:
                raise FileNotFoundError(
                    f"{directory} has no {part} list of fold {fold} of {protocol.name}: put it at "
                    f"split{fold:02d}/{part}.csv"
                )
    return found


def _inside(directory: epath.Path) -> list[epath.Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{directory} is no directory: --splits names one with a list a fold"
        ) from None
