"""Finds the clips of VoxCeleb2 in the layout in which it is distributed.

``<root>/<split>/mp4/<speaker>/<video>/<clip>.mp4`` holds the picture of a clip.
``<root>/<split>/aac/<speaker>/<video>/<clip>.m4a`` (or ``.wav``) holds its sound; without it, the sound is a
track of the mp4. A clip's name is ``<speaker>/<video>/<clip>``.

Suffixes may have capitals. If a clip has several files of sound or of picture, m4a comes before wav, and then
small letters before capitals (``.mp4``, ``.MP4``, ``.Mp4``, ``.mP4``); the others are passed over. A clip of
which a file is still being downloaded is passed over as a whole. `passed_over` names all that is no clip.
"""

import functools
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from etils import epath
from tqdm import tqdm

from data_pipeline.common.paths import is_local
from data_pipeline.corpora import passed_over
from data_pipeline.media import decode as media

PICTURES, SOUNDS = "mp4", "aac"
PICTURE_SUFFIXES, SOUND_SUFFIXES = (".mp4",), (".m4a", ".wav")


class Clips(NamedTuple):
    """The clips of a split.

    Attributes:
        names: of the clips, sorted.
        passed_over: number of files that are no clips, by kind.
    """

    names: list[str]
    passed_over: dict[str, int]


def find_clips(root: epath.Path, split: str) -> Clips:
    """Finds all clips that have a picture or a sound, and shows progress meanwhile.

    Raises:
        FileNotFoundError: ``<root>/<split>/mp4`` is not a directory, or the directory of sounds has capitals.
        ValueError: there is no clip in it, or the name of a file cannot be stored.
        OSError: a directory cannot be listed.
    """
    pictures, sounds = root / split / PICTURES, root / split / SOUNDS
    if not pictures.is_dir():
        raise FileNotFoundError(
            f"{pictures} is not a directory: --input must hold <split>/mp4/<speaker>/<video>"
        )
    if not sounds.is_dir() and (others := _of_other_case(sounds)):
        raise FileNotFoundError(f"{others[0]} would be left out: rename it to {SOUNDS}")
    counts: Counter[str] = Counter()
    unfinished: set[str] = set()
    with tqdm(desc="listing", unit="file") as bar:
        names = _list(pictures, PICTURE_SUFFIXES, counts, unfinished, bar)
        if names and sounds.is_dir():
            # Included, so that preparation reports sound without a picture.
            names |= _list(sounds, SOUND_SUFFIXES, counts, unfinished, bar)
    counts[passed_over.UNFINISHED_CLIP] += len(names & unfinished)
    names -= unfinished
    if not names:
        there = passed_over.describe(+counts)
        raise ValueError(f"{pictures} holds no <speaker>/<video>/<clip>.mp4, but {there}")
    for name in names:
        if name.splitlines() != [name] or name.encode(errors="ignore").decode() != name:
            raise ValueError(f"{root / split}: rename {name!r}: a name must be one line of UTF-8")
    return Clips(sorted(names), dict(+counts))


def _of_other_case(path: epath.Path) -> list[epath.Path]:
    """Returns the neighbours of a path whose names differ only in capitals."""
    return sorted(other for other in path.parent.iterdir() if other.name.lower() == path.name)


def video_file(root: epath.Path, split: str, name: str) -> epath.Path:
    """Returns where the picture of a clip is, or should be."""
    pictures = root / split / PICTURES
    return _existing(pictures, name, PICTURE_SUFFIXES) or pictures / f"{name}.mp4"


def audio_file(root: epath.Path, split: str, name: str) -> epath.Path | None:
    """Returns where the sound of a clip is; None if it has no file of its own."""
    sounds = root / split / SOUNDS
    return _existing(sounds, name, SOUND_SUFFIXES) if sounds.is_dir() else None


def load(root: epath.Path, split: str, name: str, crop: media.Crop | media.FaceCrop) -> media.Clip:
    """Decodes a clip by its name; errors as `media.load_clip`."""
    return media.load_clip(video_file(root, split, name), audio_file(root, split, name), crop)


def _list(
    directory: epath.Path, suffixes: tuple[str, ...], counts: Counter[str], unfinished: set[str], bar: tqdm
) -> set[str]:
    """Returns the names of the clips below a directory.

    Args:
        directory: holds ``<speaker>/<video>``.
        suffixes: of the files of clips, in small letters.
        counts: to which the files that are passed over are added.
        unfinished: to which the names of clips are added that are still being downloaded.
        bar: shows the number of files.
    """
    names: set[str] = set()
    for place, not_entered, files in _walk(directory):
        for name in not_entered:
            counts[passed_over.kind_of(name) or passed_over.MISPLACED] += 1
        for name in files:
            stem, suffix = os.path.splitext(name)
            kind = passed_over.kind_of(name)
            if kind is None and suffix.lower() not in suffixes:
                kind = passed_over.other_kind(name)
            if kind is None and not _holds_clips(place):
                kind = passed_over.MISPLACED
            if kind is None and f"{place}/{stem}" in names:
                kind = passed_over.SECOND
            if kind:
                counts[kind] += 1
            else:
                names.add(f"{place}/{stem}")
        if _holds_clips(place):
            clips = (passed_over.downloaded_clip(name, suffixes) for name in (*files, *not_entered))
            unfinished.update(f"{place}/{clip}" for clip in clips if clip)
        bar.update(len(files))
    return names


def _holds_clips(place: str) -> bool:
    return place.count(os.sep) == 1  # <speaker>/<video>


def _walk(root: epath.Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields the place of each directory below `root`, its subdirectories that are not entered, its files.

    A directory that cannot be listed is an error. Links are followed: speakers may lie on other disks.
    """
    places = os.walk(root, onerror=_raise, followlinks=True) if is_local(root) else root.walk(on_error=_raise)
    for parent, subdirectories, files in places:
        place = os.path.relpath(parent, root)
        # A speaker or video may have the name of a download. Nothing deeper than a video is a clip.
        entered = [
            name
            for name in subdirectories
            if passed_over.kind_of(name) in (None, passed_over.DOWNLOAD) and not _holds_clips(place)
        ]
        not_entered = sorted(set(subdirectories).difference(entered))
        subdirectories[:] = entered
        yield place, not_entered, files


def _existing(directory: epath.Path, name: str, suffixes: tuple[str, ...]) -> epath.Path | None:
    """Returns the first file of a clip that is there, over all suffixes and their spellings."""
    files = (directory / f"{name}{spelling}" for suffix in suffixes for spelling in _spellings(suffix))
    return next(filter(_is_there, files), None)


@functools.cache
def _spellings(suffix: str) -> list[str]:
    """Returns a suffix in all spellings: ``.mp4``, ``.MP4``, ``.Mp4``, ``.mP4``."""
    both = itertools.product(*({letter, letter.upper()} for letter in suffix))
    return sorted(map("".join, both), key=lambda text: (text != suffix, text))


def _is_there(file: epath.Path) -> bool:
    if not is_local(file):
        return file.exists()
    try:
        os.lstat(file)  # a link to nowhere is there: its clip is broken, not without sound
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _raise(error: OSError) -> None:
    raise error
