"""Reads the sound of a video or a sound file of any length, from the beginning of the picture.

This is for a file of the user on which nothing is trained. So a fault that `audio.decode_audio` refuses is
noted and read past, if it can be: for a damaged frame there is silence, and of channels that cancel each
other the first one is taken.
"""

from fractions import Fraction

import av
import numpy as np
from etils import epath

from data_pipeline.media.audio import Sound, join
from data_pipeline.media.containers import chosen, opened_file
from data_pipeline.media.reasons import Notes, Reason, UnusableClipError
from data_pipeline.media.track_frames import whole_frames


def read_sound(
    path: epath.PathLike, start: Fraction | None = Fraction(0), notes: Notes | None = None
) -> np.ndarray | None:
    """Reads the default track of sound of a file.

    Two hours take 230 MB, and twice as much while they are read.

    Args:
        path: of the file; its ending says what it is (`containers.VIDEOS`, `containers.SOUNDS`).
        start: the time in the file, in s, at which the result begins: earlier sound is cut, and before later
            sound there is silence. For the track of a video it is `VideoStream.start`; for a file beside the
            video, whose time 0 is that of the first frame, 0; for a file without a picture None, which is the
            beginning of the sound.
        notes: to which faults that were read past are added.

    Returns:
        int16 [n], mono at 16 kHz; None if the file has no track of sound or no sample in it.

    Raises:
        UnusableClipError: there is no such file, it is no media file, or its timestamps contradict its sound.
        OSError: the file exists but cannot be read.
    """
    notes = Notes() if notes is None else notes
    path = epath.Path(path)
    try:
        sound = _read(path, start, notes, first_channel=False)
        if sound is not None and sound.cancelled:
            detail = f"the channels of {path.name} cancel each other; the first one is taken"
            notes.add(Reason.CANCELLED_AUDIO, detail)
            sound = _read(path, start, Notes(), first_channel=True)
    except UnusableClipError as error:
        if error.reason is not Reason.EMPTY_AUDIO:
            raise
        notes.add(error.reason, error.detail)
        return None
    return None if sound is None else sound.samples


def _read(path: epath.Path, start: Fraction | None, notes: Notes, first_channel: bool) -> Sound | None:
    def note_damage(what: str, at: int | None) -> None:
        notes.add(Reason.CORRUPT_AUDIO, f"{path.name}: {what}; it is silent there")

    with opened_file(path, Reason.MISSING_AUDIO, Reason.CORRUPT_AUDIO) as container:
        stream = chosen(container.streams.audio)
        if stream is None:
            return None
        frames = whole_frames(container, stream, av.AudioFrame, note_damage)
        return join(frames, path.name, start, any_length=True, first_channel=first_channel)
