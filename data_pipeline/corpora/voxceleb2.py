"""Finds the clips of VoxCeleb2 in the layout in which it is distributed, and as people unpack it.

``<input>/<split>/mp4/<speaker>/<video>/<clip>.mp4`` holds the picture of a clip.
``<input>/<split>/aac/<speaker>/<video>/<clip>.m4a`` (or ``.wav``) holds its sound; without it, the sound is a
track of the video. A clip's name is ``<speaker>/<video>/<clip>``.

The directories ``mp4`` and ``aac`` may also lie in the input itself, or one directory deeper, as in
``dev/dev/mp4`` or ``vox2_aac/dev/aac``, and several of them count together. Names of directories and suffixes
may have capitals.

If a clip has several files of sound or of picture, m4a comes before wav, and then small letters before
capitals (``.mp4``, ``.MP4``, ``.Mp4``, ``.mP4``); the others are passed over. A clip of which a file is still
being downloaded is passed over as a whole. `passed_over` names all that is no clip.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from etils import epath
from tqdm import tqdm

from data_pipeline.corpora import passed_over
from data_pipeline.corpora.clip_files import ClipFiles, Clips, InputFile, check_name
from data_pipeline.corpora.tree import suffix_rank, walk
from data_pipeline.media.containers import SOUNDS, VIDEOS

SPLITS = ("dev", "test")
PICTURES = ("mp4",)
SOUND_DIRECTORIES = ("aac", "m4a", "wav", "audio")
PICTURE_SUFFIXES = VIDEOS
SOUND_SUFFIXES = (".m4a", ".wav", *(suffix for suffix in SOUNDS if suffix not in (".m4a", ".wav")))
_MOST_SUBDIRECTORIES = 50
"""A directory with more subdirectories holds speakers, not the parts of a corpus."""
_ARCHIVE = re.compile(r".*(\.zip|\.tar|\.tgz|\.tar\.gz|\.z\d\d|_part[a-z]{2}|\.zip\.\d+|\.7z)", re.IGNORECASE)


class _Directory(NamedTuple):
    """A directory of pictures or of sounds: the number of its input, and its path from there."""

    source: int
    path: str


_Found = dict[str, tuple[_Directory, str]]
"""Name of each clip → the directory and the suffix of its file."""


def find_clips(inputs: Sequence[epath.Path], split: str) -> Clips:
    """Find all clips that have a picture or a sound, and show progress meanwhile.

    Args:
        inputs: directories that hold parts of one corpus.
        split: ``dev`` or ``test``.

    Raises:
        FileNotFoundError: no input has ``<split>/mp4``.
        ValueError: there is no clip in it, or the name of a file cannot be stored.
        OSError: a directory cannot be listed.
    """
    pictures = _directories(inputs, split, PICTURES)
    sounds = _directories(inputs, split, SOUND_DIRECTORIES)
    if not pictures:
        raise FileNotFoundError(_not_there(inputs, split))
    counts: Counter[str] = Counter()
    unfinished: set[str] = set()
    with tqdm(desc="listing", unit="file") as bar:
        videos = _list(inputs, pictures, PICTURE_SUFFIXES, counts, unfinished, bar)
        # Sounds without a picture are included, so that preparation reports them.
        audios = _list(inputs, sounds, SOUND_SUFFIXES, counts, unfinished, bar) if videos else {}
    names = sorted({*videos, *audios}.difference(unfinished))
    counts[passed_over.UNFINISHED_CLIP] += len(unfinished.intersection({*videos, *audios}))
    where = ", ".join(os.fspath(inputs[each.source] / each.path) for each in pictures)
    if not names:
        there = passed_over.describe(+counts)
        raise ValueError(
            f"{where} holds no <speaker>/<video>/<clip>.mp4, but {there}; for any other tree of videos, give "
            "--layout=folder"
        )
    for name in names:
        check_name(name, where)
    clips = [
        ClipFiles(name, _file(name, videos) or _absent(name, pictures[0]), _file(name, audios))
        for name in names
    ]
    beside = ", ".join(os.fspath(inputs[each.source] / each.path) for each in sounds) or "the videos"
    return Clips(clips, dict(+counts), f"videos of {where}, sound of {beside}")


def has_layout(root: epath.Path, split: str) -> bool:
    """Whether a directory has the layout of VoxCeleb2, for a split."""
    return bool(_directories([root], split, PICTURES))


def _file(name: str, found: _Found) -> InputFile | None:
    if name not in found:
        return None
    directory, suffix = found[name]
    return InputFile(directory.source, os.path.join(directory.path, name + suffix))


def _absent(name: str, directory: _Directory) -> InputFile:
    """Where the picture of a clip should be that has only sound."""
    return InputFile(directory.source, os.path.join(directory.path, f"{name}.mp4"))


def _directories(inputs: Sequence[epath.Path], split: str, names: Sequence[str]) -> list[_Directory]:
    """The directories of pictures, or of sounds, of a split, in a fixed order."""
    found = []
    for source, root in enumerate(inputs):
        inside = sorted(_search(root, split, names, ""), key=lambda path: (path.count(os.sep), path))
        of_split = [path for path in inside if os.sep in path]
        found += [_Directory(source, path) for path in of_split or inside]
    return found


def _search(root: epath.Path, split: str, names: Sequence[str], place: str) -> list[str]:
    """Directories with one of the names in ``place``, or deeper where the split is on the way."""
    depth = place.count(os.sep) + bool(place)
    parts = place.casefold().split(os.sep)
    directory = root / place
    if not directory.is_dir():
        return []
    subdirectories = sorted(path.name for path in directory.iterdir() if path.is_dir())
    found = [
        os.path.join(place, name)
        for name in subdirectories
        if name.casefold() in names and (not place or split.casefold() in parts)
    ]
    if depth == 2 or len(subdirectories) > _MOST_SUBDIRECTORIES:
        return found
    ends = (*PICTURES, *SOUND_DIRECTORIES, "txt")
    for name in subdirectories:
        if passed_over.kind_of(name) is None and name.casefold() not in ends:
            found += _search(root, split, names, os.path.join(place, name))
    return found


def _not_there(inputs: Sequence[epath.Path], split: str) -> str:
    """Why there are no pictures, and what to do."""
    for root in inputs:
        if not root.is_dir():
            return f"{root} is not a directory: --input must hold <split>/mp4/<speaker>/<video>"
    root = inputs[0]
    wanted = root / split / "mp4"
    for other in SPLITS:
        if other != split and _directories([root], other, PICTURES):
            return f"{wanted} is not a directory, but there is the split {other}: --split={other}"
    archives = sorted(
        path.name
        for directory in (root, root / split)
        if directory.is_dir()
        for path in directory.iterdir()
        if _ARCHIVE.fullmatch(path.name)
    )
    if archives:
        parts = "; join the parts first: cat NAME_part* > NAME.zip" if "_part" in archives[0] else ""
        return f"{root} holds {archives[0]} but no {split}/mp4: unpack the archives there{parts}"
    return f"{wanted} is not a directory: --input must hold <split>/mp4/<speaker>/<video>"


def _list(
    inputs: Sequence[epath.Path],
    directories: Sequence[_Directory],
    suffixes: Sequence[str],
    counts: Counter[str],
    unfinished: set[str],
    bar: tqdm,
) -> _Found:
    """The clips below some directories.

    Args:
        inputs: as given.
        directories: each holds ``<speaker>/<video>``.
        suffixes: of the files of clips, in small letters, the best one first.
        counts: to which the files that are passed over are added.
        unfinished: to which the names of clips are added that are still being downloaded.
        bar: shows the number of files.
    """
    found: _Found = {}
    origins: dict[tuple[_Directory, str], tuple[_Directory, str]] = {}  # one object for all that are equal
    for directory in directories:
        for place, not_entered, files in walk(inputs[directory.source] / directory.path, _enters):
            for name in not_entered:
                counts[passed_over.kind_of(name) or passed_over.MISPLACED] += 1
            # The best suffix first, so that the others are second ones.
            for name in sorted(files, key=lambda file: suffix_rank(os.path.splitext(file)[1], suffixes)):
                kind, stem, suffix = _kind(place, name, suffixes)
                if kind is None and f"{place}/{stem}" in found:
                    kind = passed_over.SECOND
                if kind:
                    counts[kind] += 1
                else:
                    origin = (directory, suffix)
                    found[f"{place}/{stem}"] = origins.setdefault(origin, origin)
            if _holds_clips(place):
                clips = (
                    passed_over.downloaded_clip(name, tuple(suffixes)) for name in (*files, *not_entered)
                )
                unfinished.update(f"{place}/{clip}" for clip in clips if clip)
            bar.update(len(files))
    return found


def _kind(place: str, name: str, suffixes: Sequence[str]) -> tuple[str | None, str, str]:
    """The kind of a file that is no clip, else None; its stem and its suffix."""
    stem, suffix = os.path.splitext(name)
    kind = passed_over.kind_of(name)
    if kind is None and suffix.lower() not in suffixes:
        kind = passed_over.other_kind(name)
    if kind is None and not _holds_clips(place):
        kind = passed_over.MISPLACED
    return kind, stem, suffix


def _holds_clips(place: str) -> bool:
    return place.count(os.sep) == 1  # <speaker>/<video>


def _enters(place: str, name: str) -> bool:
    # A speaker or video may have the name of a download. Nothing deeper than a video is a clip.
    return passed_over.kind_of(name) in (None, passed_over.DOWNLOAD) and not _holds_clips(place)
