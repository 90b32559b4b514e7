"""Reads the windows of a video or a sound file of the user: crops of each face, and the sound of its time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from data_pipeline.media.containers import SOUNDS
from data_pipeline.media.inputs import Input
from data_pipeline.media.reasons import Notes, Reason, UnusableClipError
from data_pipeline.media.video_stream import VideoStream
from data_pipeline.media.whole_sound import read_sound
from data_pipeline.media.windows import FaceWindows, Window, Windows


class Seen(NamedTuple):
    """A crop of a face.

    Attributes:
        track: number of the stretch of frames in which the face is followed; a window holds one.
        face: number of the face.
        crop: uint8 [S, S, 3].
    """

    track: int
    face: int
    crop: np.ndarray


View = Callable[[VideoStream, Notes], Callable[[int, np.ndarray], list[Seen]]]
"""Looks at a video, and returns a function that cuts the faces out of a frame, given its number."""


def read_windows(given: Input, notes: Notes, windows: Windows, view: View) -> Iterator[Window]:
    """Reads a file from its beginning, and yields the windows of every face as they are complete.

    Without a picture, the windows hold sound alone; without sound, pictures alone. Sound in the file comes
    before a file of sound beside it.

    Args:
        given: the file.
        notes: to which faults that were read past are added.
        windows: how the video is cut.
        view: cuts the faces out.

    Raises:
        UnusableClipError: nothing in the file can be used.
        OSError: the file cannot be read.
    """
    stream = None
    if given.path.suffix.lower() not in SOUNDS:
        stream = _picture_of(given, notes)
    sound = _sound_of(given, stream, notes)
    if stream is not None:
        length = stream.stated or float("inf")
        for window in _seen(stream, windows, sound, view(stream, notes), notes):
            yield window._replace(end=max(min(window.end, length), window.begin))
    elif sound is not None:
        yield from windows.of_sound_alone(sound)


def _picture_of(given: Input, notes: Notes) -> VideoStream | None:
    try:
        return VideoStream(given.path)
    except UnusableClipError as error:
        if error.reason is not Reason.NO_VIDEO_STREAM:
            raise
        notes.add(error.reason, f"{error.detail}: the sound alone is used")
        return None


def _sound_of(given: Input, stream: VideoStream | None, notes: Notes) -> np.ndarray | None:
    """The sound of a file or beside it; None without sound, or if it is silent throughout."""
    sound = read_sound(given.path, None if stream is None else stream.start, notes)
    if sound is None and given.beside is not None:
        sound = read_sound(given.beside, notes=notes)
    silent = sound is not None and not sound.any()
    if sound is not None and not silent:
        return sound
    what = f"{given.path.name} {'is silent' if silent else 'has no sound'}"
    if stream is None:
        raise UnusableClipError(Reason.EMPTY_AUDIO, f"{what}, and has no picture")
    notes.add(Reason.EMPTY_AUDIO if silent else Reason.MISSING_AUDIO, f"{what}: the picture alone is used")
    return None


def _seen(
    stream: VideoStream,
    windows: Windows,
    sound: np.ndarray | None,
    cut: Callable[[int, np.ndarray], list[Seen]],
    notes: Notes,
) -> Iterator[Window]:
    tracks: dict[int, FaceWindows] = {}
    for number, picture in stream.frames(windows.sampling.stride, notes):
        seen = cut(number, picture)
        gone = tracks.keys() - {track for track, _, _ in seen}
        made = [tracks.pop(track).finish() for track in sorted(gone)]
        for track, face, crop in seen:
            collected = tracks.setdefault(track, FaceWindows(windows, sound, face))
            made.append(collected.add(number, crop))
        yield from filter(None, made)
    yield from filter(None, (tracks[track].finish() for track in sorted(tracks)))
