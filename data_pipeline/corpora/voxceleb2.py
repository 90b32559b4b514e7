"""Finds the clips of VoxCeleb2 in the layout in which it is distributed.

``<root>/<split>/mp4/<speaker>/<video>/<clip>.mp4`` holds the picture of a clip.
``<root>/<split>/aac/<speaker>/<video>/<clip>.m4a`` (or ``.wav``) holds its sound; without it, the sound is a
track of the mp4. A clip's name is ``<speaker>/<video>/<clip>``.
"""

import os
from collections.abc import Iterator

from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.media import decode as media

PICTURES, SOUNDS = "mp4", "aac"
SOUND_SUFFIXES = (".m4a", ".wav")


def find_clips(root: epath.Path, split: str) -> list[str]:
    """Returns the names, sorted, of all clips that have a picture or a sound.

    Raises:
        FileNotFoundError: ``<root>/<split>/mp4`` is not a directory.
        ValueError: there is no clip in it, or the name of a file cannot be stored.
        OSError: a directory cannot be listed.
    """
    pictures = root / split / PICTURES
    if not pictures.is_dir():
        raise FileNotFoundError(
            f"{pictures} is not a directory: --input must hold <split>/mp4/<speaker>/<video>"
        )
    names = set(_names(pictures, (".mp4",)))
    if not names:
        raise ValueError(f"{pictures} holds no <speaker>/<video>/<clip>.mp4")
    sounds = root / split / SOUNDS
    if sounds.is_dir():
        # Included, so that preparation reports sound without a picture.
        names.update(_names(sounds, SOUND_SUFFIXES))
    for name in names:
        if name.splitlines() != [name] or name.encode(errors="ignore").decode() != name:
            raise ValueError(f"{root / split}: rename {name!r}: a name must be one line of UTF-8")
    return sorted(names)


def video_file(root: epath.Path, split: str, name: str) -> epath.Path:
    """Returns where the picture of a clip is, or should be."""
    return root / split / PICTURES / f"{name}.mp4"


def audio_file(root: epath.Path, split: str, name: str) -> epath.Path | None:
    """Returns where the sound of a clip is; None if it has no file of its own."""
    candidates = (root / split / SOUNDS / f"{name}{suffix}" for suffix in SOUND_SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def load(root: epath.Path, split: str, name: str, crop: media.Crop) -> media.Clip:
    """Decodes a clip by its name; errors as `media.load_clip`."""
    return media.load_clip(video_file(root, split, name), audio_file(root, split, name), crop)


def _names(directory: epath.Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    # A directory that cannot be listed is an error. Links are followed: speakers may lie on other disks.
    if atomic_files.is_local(directory):
        places = os.walk(directory, onerror=_raise, followlinks=True)
    else:
        places = directory.walk(on_error=_raise)
    for parent, subdirectories, files in places:
        place = os.path.relpath(parent, directory)
        if place.count(os.sep) == 1:  # <speaker>/<video>
            subdirectories.clear()  # nothing below is a clip
            for stem, suffix in map(os.path.splitext, files):
                if suffix in suffixes:
                    yield f"{place}/{stem}"


def _raise(error: OSError) -> None:
    raise error
