"""Find the clips of VoxCeleb2 in the layout it is distributed in.

``<root>/<split>/mp4/<speaker>/<video>/<clip>.mp4`` holds the pictures, and, where it was unpacked,
``<root>/<split>/aac/<speaker>/<video>/<clip>.m4a`` the sound (a ``.wav`` in its place serves too). A clip's
name is ``<speaker>/<video>/<clip>``.
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
        FileNotFoundError: if ``<root>/<split>/mp4`` is not a directory.
        ValueError: if there is no clip in it, or a file's name cannot be stored.
        OSError: if a directory cannot be listed.
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
        # A sound without a picture is to be reported, not passed over.
        names.update(_names(sounds, SOUND_SUFFIXES))
    for name in names:
        if name.splitlines() != [name] or name.encode(errors="ignore").decode() != name:
            raise ValueError(f"{root / split}: rename {name!r}: names are kept as lines of UTF-8")
    return sorted(names)


def video_file(root: epath.Path, split: str, name: str) -> epath.Path:
    """Returns where the picture of a clip is, or should be."""
    return root / split / PICTURES / f"{name}.mp4"


def audio_file(root: epath.Path, split: str, name: str) -> epath.Path | None:
    """Returns where the sound of a clip is, None if it has no file of its own."""
    candidates = (root / split / SOUNDS / f"{name}{suffix}" for suffix in SOUND_SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def load(root: epath.Path, split: str, name: str, crop: media.Crop) -> media.Clip:
    """Decodes a clip by its name; errors as `media.load_clip`."""
    return media.load_clip(video_file(root, split, name), audio_file(root, split, name), crop)


def _names(directory: epath.Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    # What cannot be listed must not pass for empty; speakers may be links to directories on other disks.
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
