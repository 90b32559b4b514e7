"""Lists the videos and sounds in files, folders and lists of the user."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipeline.media.containers import SOUNDS, VIDEOS

LISTS = (".txt", ".lst")
"""Endings of a list: a path a line, from the list's directory. Lines that begin with # do not count."""

SOUND_FOLDERS = ("aac", "audio", "sound", "wav")
"""Where the sound of videos in a folder `PICTURE_FOLDERS` may lie: mp4/id1/a.mp4 and aac/id1/a.m4a."""
PICTURE_FOLDERS = ("mp4", "video", "videos")


class Input(NamedTuple):
    """A video or a sound to read.

    Attributes:
        name: its path inside the folder that was given, or its file's name; no two inputs have the same.
        path: of the video; of the sound file, if it is a sound alone.
        beside: the sound file of a video, of the same stem, beside it or in a folder of sounds beside its own
            (`SOUND_FOLDERS`); None if there is none.
    """

    name: str
    path: Path
    beside: Path | None


def find_inputs(given: Sequence[str]) -> list[Input]:
    """Lists what files, folders and lists hold, in the order given, and sorted within a folder.

    In a folder, hidden files do not count, and neither do the sound files of its videos.

    Args:
        given: paths of media files, of folders, and of lists (`LISTS`).

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a file has no ending of a media file, or there is nothing to read.
    """
    found = [each for path in given for each in _of(Path(path))]
    paths: dict[Path, Input] = {}
    for each in found:
        paths.setdefault(each.path.resolve(), each)  # one that is given twice is read once
    inputs = list(paths.values())
    if not inputs:
        raise ValueError(f"no video or sound in {', '.join(given) or 'no input'}")
    names = [each.name for each in inputs]
    doubled = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return [
        each._replace(name=str(each.path).lstrip("/")) if each.name in doubled else each for each in inputs
    ]


def _of(path: Path) -> Iterator[Input]:
    if path.is_dir():
        yield from _of_folder(path)
    elif not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    elif path.suffix.lower() in LISTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                yield from _listed(path, line.strip())
    elif path.suffix.lower() in (*VIDEOS, *SOUNDS):
        yield Input(path.name, path, _beside(path))
    else:
        endings = " ".join((*VIDEOS, *SOUNDS))
        raise ValueError(f"{path}: the ending is none of a video or sound ({endings}) or list (.txt)")


def _listed(listing: Path, line: str) -> Iterator[Input]:
    """The input that a line of a list names; one that is missing is listed as broken when it is read."""
    path = listing.parent / line
    if path.is_dir():
        raise ValueError(f"{listing}: {line} is a folder; give it as an input of its own")
    name = line if not os.path.isabs(line) and ".." not in Path(line).parts else path.name
    yield Input(name, path, _beside(path))


def _of_folder(folder: Path) -> list[Input]:
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(directory, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() in (*VIDEOS, *SOUNDS):
                found.append(Input(path.relative_to(folder).as_posix(), path, _beside(path)))
    of_videos = {each.beside for each in found}
    return sorted(each for each in found if each.path not in of_videos)


def _beside(path: Path) -> Path | None:
    """The sound file of a video: of the same stem, in the same folder or in that of sounds beside it."""
    if path.suffix.lower() in SOUNDS:
        return None
    parents = [path.parent]
    for place, part in enumerate(path.parts[:-1]):
        if part in PICTURE_FOLDERS:
            parents += [
                Path(*path.parts[:place], other, *path.parts[place + 1 : -1]) for other in SOUND_FOLDERS
            ]
    endings = (*SOUNDS, *(ending.upper() for ending in SOUNDS))
    return next(
        (found for parent in parents for end in endings if (found := parent / f"{path.stem}{end}").is_file()),
        None,
    )
