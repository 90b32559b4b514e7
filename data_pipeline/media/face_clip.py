"""Loads a labelled clip: face frames from a directory of pictures or from a video, and the sound.

Frames of a directory are taken in the order of their names, at whatever rate they were made. A video gives 25
frames a second. Fine-tuning relates sound to frames by their relative position, so both lengths need not
agree. What cannot be used raises `UnusableClipError`; an error of the machine raises `OSError`.
"""

import functools
import io
import os
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from data_pipeline.format.clip_sampling import FEWEST_SAMPLES
from data_pipeline.media.audio import decode_audio
from data_pipeline.media.containers import VIDEOS
from data_pipeline.media.decode import read_file
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.stretch import Stretch
from data_pipeline.media.video import decode_frames, decode_video

__all__ = ["PICTURES", "VIDEOS", "FaceClip", "load_face_clip"]

PICTURES = (".jpg", ".jpeg", ".png")


class FaceClip(NamedTuple):
    """The contents of a labelled clip.

    Attributes:
        jpegs: its stretched frames, at least one.
        samples: int16[n_samples], mono, at `limits.SAMPLE_RATE`.
    """

    jpegs: list[bytes]
    samples: np.ndarray


def load_face_clip(
    frames: epath.Path | None,
    video: epath.Path | None,
    audio: epath.Path | None,
    stretch: Stretch,
    find_face: bool = False,
) -> FaceClip:
    """Loads a clip.

    Args:
        frames: directory of its face frames; None: they are in `video`.
        video: its video file, which is not read if there are `frames`, except for its sound.
        audio: its file of sound; None: the track of `video`.
        stretch: the stored size of frames.
        find_face: keep the largest face of a video instead of its whole frames.

    Raises:
        UnusableClipError: a file is missing or cannot be used, there is too little sound, or no face.
        OSError: a file exists but cannot be read.
        ImportError: a face is to be found, and the extra ``face`` is not installed.
    """
    start = Fraction(0)
    if audio is None and video is None:
        raise UnusableClipError(Reason.MISSING_AUDIO, "no file of sound")
    data = b"" if video is None or (frames and audio) else read_file(video, Reason.MISSING_VIDEO)
    if frames is not None:
        jpegs = _read_pictures(frames, stretch)
    elif video is not None:
        if find_face:
            from data_pipeline.media.face_video import decode_face  # SciPy takes half a second to import

            decode = functools.partial(decode_frames, data, video.name)
            picture = decode_face(decode, video.name, stretch.side, stretch.jpeg)
        else:
            picture = decode_video(data, video.name, stretch)
        jpegs, start = picture.jpegs, picture.start
    else:
        raise UnusableClipError(Reason.MISSING_FRAMES, "neither face frames nor a video")
    if audio is not None:
        sound = read_file(audio, Reason.MISSING_AUDIO)
        samples, _ = decode_audio(sound, audio.name, Reason.MISSING_AUDIO, Fraction(0))
    else:
        assert video is not None
        samples, _ = decode_audio(data, video.name, Reason.MISSING_AUDIO, start)
    if len(samples) < FEWEST_SAMPLES:
        detail = f"{len(samples)} samples, {FEWEST_SAMPLES} are needed"
        raise UnusableClipError(Reason.TOO_SHORT_AUDIO, detail)
    return FaceClip(jpegs, samples)


def _read_pictures(directory: epath.Path, stretch: Stretch) -> list[bytes]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.lower().endswith(PICTURES))
    except (FileNotFoundError, NotADirectoryError):
        raise UnusableClipError(Reason.MISSING_FRAMES, f"no directory {directory.name}") from None
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise UnusableClipError(Reason.MISSING_FRAMES, f"no {', '.join(PICTURES)} in {directory.name}")
    return [_read_picture(directory / name, stretch) for name in names]


def _read_picture(path: epath.Path, stretch: Stretch) -> bytes:
    data = read_file(path, Reason.MISSING_FRAMES)  # an error of the machine raises OSError here
    try:
        with Image.open(io.BytesIO(data)) as image:
            return stretch.jpeg_of(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnusableClipError(Reason.CORRUPT_FRAME, f"{path.name} does not decode: {error}") from error
