"""Finds the clips of the data sets whose downloads tell names, labels and speakers by themselves.

=============  ==========================================================================================
``crema_d``    ``VideoMP4/1001_DFA_ANG_XX.mp4`` or ``VideoFlash/….flv``, ``AudioWAV/….wav``
``ravdess``    ``Actor_01/02-01-….mp4`` (picture) or ``01-01-….mp4`` (both), ``03-01-….wav``, at any depth
``iemocap``    ``Session1/sentences/wav/<dialogue>/<utterance>.wav``, ``Session1/dialog/EmoEvaluation/*.txt``
``made_up``    ``labels.csv`` (``clip,speaker,emotion,…``), ``video/<clip>.mp4``, ``sound/<clip>.wav``
=============  ==========================================================================================

Face frames, where they were cut out before, are in ``<frames>/<clip>/``. A clip is listed if any of its files
is there. Preparation rejects it if another one is missing.
"""

import csv
import os
import re
from collections.abc import Callable, Iterator, Mapping

from etils import epath

from data_pipeline.corpora.clip_names import told
from data_pipeline.corpora.found_clip import FoundClip
from data_pipeline.media.face_clip import VIDEOS

_IEMOCAP_LABELS = {
    "ang": "anger",
    "neu": "neutral",
    "hap": "happiness",
    "exc": "excitement",
    "sad": "sadness",
    "fru": "frustration",
    "sur": "surprise",
    "fea": "fear",
    "dis": "disgust",
    "oth": "other",
    "xxx": "undecided",
}


def find_crema_d(root: epath.Path, frames: epath.Path | None) -> list[FoundClip]:
    """Finds the clips of CREMA-D; arguments as of `labelled.find`."""
    sounds = _files(root / "AudioWAV", (".wav",))
    videos = _files(root / "VideoFlash", VIDEOS) | _files(root / "VideoMP4", VIDEOS)
    folders = _folders(frames)
    return [
        FoundClip(
            name=name,
            speaker=known.speaker,
            labels={"emotion": known.emotion},
            folds={},
            frames=_frames_of(name, frames),
            video=videos.get(name),
            # Named even if it is missing: the flv has a track of sound that is not the published one.
            audio=sounds.get(name, os.fspath(root / "AudioWAV" / f"{name}.wav")),
        )
        for name in sorted(sounds.keys() | videos.keys() | folders)
        if (known := told("crema_d", name))
    ]


def find_ravdess(root: epath.Path, frames: epath.Path | None) -> list[FoundClip]:
    """Finds the speech clips of RAVDESS; arguments as of `labelled.find`.

    A clip has the name of its file of picture alone, as in the published lists.
    """
    files: dict[str, str] = {}
    for path in _walk(root):
        stem, suffix = os.path.splitext(os.path.basename(path))
        if re.fullmatch(r"0[1-3]-01(-\d\d){5}", stem) and suffix.lower() in (*VIDEOS, ".wav"):
            files[stem] = path
    folders = {f"{actor}/{name}" for actor in _folders(frames) if frames for name in _folders(frames / actor)}
    found = {f"Actor_{stem[-2:]}/02{stem[2:]}" for stem in files} | folders
    return [
        FoundClip(
            name=name,
            speaker=known.speaker,
            labels={"emotion": known.emotion},
            folds={},
            frames=_frames_of(name, frames),
            video=files.get(f"02{take}") or files.get(f"01{take}"),
            audio=files.get(f"03{take}") or files.get(f"01{take}"),
        )
        for name in sorted(found)
        if (known := told("ravdess", name)) and (take := name.rpartition("/")[2][2:])
    ]


def find_iemocap(root: epath.Path, frames: epath.Path | None) -> list[FoundClip]:
    """Finds the utterances of IEMOCAP; arguments as of `labelled.find`.

    Raises:
        ValueError: there are no face frames: a video of IEMOCAP shows two persons.
    """
    if frames is None:
        raise ValueError(
            "--frames is missing: a video of iemocap shows two persons, so cut out the faces of the one who "
            "speaks into <frames>/<utterance>/"
        )
    clips = []
    for session in range(1, 6):
        place = root / f"Session{session}"
        for path in sorted(_files(place / "dialog" / "EmoEvaluation", (".txt",)).values()):
            for name, label in _evaluated(path):
                if known := told("iemocap", name):
                    sound = place / "sentences" / "wav" / name.rpartition("_")[0] / f"{name}.wav"
                    labels: dict[str, str | float] = {"emotion": label}
                    clips.append(
                        FoundClip(
                            name, known.speaker, labels, {}, _frames_of(name, frames), None, os.fspath(sound)
                        )
                    )
    return sorted(clips)


def _evaluated(path: str) -> Iterator[tuple[str, str]]:
    """Yields utterance and label: lines such as ``[6.29 - 8.23]<tab>Ses01F_impro01_F000<tab>neu<tab>[…]``."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.rstrip("\n").split("\t")
            if line.startswith("[") and len(fields) >= 3 and fields[1].startswith("Ses"):
                yield fields[1], _IEMOCAP_LABELS.get(fields[2], fields[2])


def find_made_up(root: epath.Path, frames: epath.Path | None) -> list[FoundClip]:
    """Finds the clips of a synthetic labelled corpus; arguments as of `labelled.find`.

    Raises:
        FileNotFoundError: there is no ``labels.csv``.
        ValueError: it has other columns, or an empty field.
    """
    table = root / "labels.csv"
    if not table.exists():
        raise FileNotFoundError(f"{table} is missing: give the directory of a made-up corpus as --input")
    with open(table, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        needed = ("clip", "speaker", "emotion")
        if missing := [name for name in needed if name not in (rows.fieldnames or ())]:
            raise ValueError(
                f"{table} has no column {missing[0]}: its first line must name {', '.join(needed)}"
            )
        listed = [tuple((row[name] or "").strip() for name in needed) for row in rows]
    for number, row in enumerate(listed, start=2):
        if not all(row):
            raise ValueError(f"{table}, line {number}: a field is empty: give clip, speaker and emotion")
    sounds, videos = _files(root / "sound", (".wav",)), _files(root / "video", VIDEOS)
    return [
        FoundClip(
            name=name,
            speaker=speaker,
            labels={"emotion": emotion},
            folds={},
            frames=_frames_of(name, frames),
            video=videos.get(name, os.fspath(root / "video" / f"{name}.mp4")),
            audio=sounds.get(name),
        )
        for name, speaker, emotion in sorted(listed)
    ]


FINDERS: Mapping[str, Callable[[epath.Path, epath.Path | None], list[FoundClip]]] = {
    "crema_d": find_crema_d,
    "ravdess": find_ravdess,
    "iemocap": find_iemocap,
    "made_up": find_made_up,
}
"""Data set → function that finds its clips in its download."""


def _frames_of(name: str, frames: epath.Path | None) -> str | None:
    return None if frames is None else os.fspath(frames / name)


def _files(directory: epath.Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Returns name without suffix → path of the files in a directory; none if it is not there."""
    found = {}
    for name in sorted(os.listdir(directory)) if directory.is_dir() else ():
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in suffixes and not name.startswith("."):
            found[stem] = os.fspath(directory / name)
    return found


def _folders(directory: epath.Path | None) -> set[str]:
    """Returns the names of the directories in a directory; none if it is not there."""
    if directory is None or not directory.is_dir():
        return set()
    with os.scandir(directory) as entries:
        return {entry.name for entry in entries if entry.is_dir()}


def _walk(root: epath.Path) -> Iterator[str]:
    """Yields the paths of all files below a directory, in order."""
    for parent, subdirectories, files in os.walk(root, followlinks=True):
        subdirectories.sort()
        yield from (os.path.join(parent, name) for name in sorted(files))
