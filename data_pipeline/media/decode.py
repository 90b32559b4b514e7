"""Decodes a clip's files: face frames as JPEG at 25 frames a second, sound as 16 kHz mono int16 (PyAV).

Wrong data is not stored without a word, because what changes the picture or the sound of a file is either
followed or refused:

* Followed: turned and mirrored pictures, pixels that are not square, another size midway (scaled to the first
  one's), another frame rate, gaps and several frames for one moment (timestamps decide, see `frame_times`);
  the default track; another sample rate or several channels, also midway; gaps, delays and cuts of sound
  (timestamps decide, see `audio`); sound that is only a track of the video file.
* Refused: a clip that cannot be used raises `UnusableClipError` with a `Reason`. So does what this code
  cannot follow: a tilted, interlaced or transparent picture, frames that change their shape, channels that
  cancel each other, a damaged frame, which the decoder fills with guesses. In the end, so does every clip
  whose sound and picture have different lengths, whatever the cause; a wrong declared rate is one.
* Reported: `Clip.frame_size`, because a crop in pixels fits one size of frames only, and no file says whether
  it is the right one.
* Not seen: pixels whose shape changes midway in frames of one size. And where an edit list cuts the sound
  within a packet, FFmpeg may place what follows up to a packet (64 ms of AAC at 16 kHz) wrong.

The sound of a file of its own begins with the picture: its time 0 is the time of the first frame. Sound that
is a track of the video file has the clock of the picture.

An error of the machine (disk, network, permission) is not the clip's fault and raises `OSError`. They are
distinguished because a file is read before it is decoded: only reading can meet an error of the machine.

Memory: one decoded frame at a time, the clip's JPEGs and samples, and the file itself. Clips above
`MAX_SECONDS` and files above `MAX_BYTES` are refused, so that a film among the clips cannot fill the memory.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from etils import epath

from data_pipeline.common.paths import file_length, may_be_file
from data_pipeline.format.clip_sampling import FEWEST_SAMPLES
from data_pipeline.format.records import STRIDE
from data_pipeline.media.audio import decode_audio
from data_pipeline.media.limits import FPS, MAX_BYTES, MAX_LENGTH_DIFFERENCE, SAMPLE_RATE
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.stretch import Stretch
from data_pipeline.media.video import JPEG_QUALITY, Crop, Encode, FaceCrop, Picture, decode_frames

__all__ = [
    "DECODER_VERSION",
    "FPS",
    "JPEG_QUALITY",
    "MIN_FRAMES",
    "SAMPLE_RATE",
    "Clip",
    "Crop",
    "FaceCrop",
    "Part",
    "Reason",
    "Stretch",
    "UnusableClipError",
    "check_lengths",
    "clip_of",
    "decode_part",
    "load_clip",
    "read_file",
]

MIN_FRAMES = STRIDE  # one for every phase
DECODER_VERSION = 3
"""Raised whenever a file may give other frames or samples than before.

1 is that of hicmae_jax 0.1.0. 3 orders the pictures of avi files that have B-frames.
"""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A decoded clip.

    Attributes:
        jpegs: its frames at `FPS`, cropped.
        samples: (n_samples,) int16, mono, at `SAMPLE_RATE`.
        resampled: whether the frame rate or the sample rate was changed.
        frame_size: (height, width) of a frame before the crop, upright and with square pixels.
    """

    jpegs: list[bytes]
    samples: np.ndarray
    resampled: bool
    frame_size: tuple[int, int]


Part = Crop | FaceCrop | Stretch
"""What is kept of each frame: a part, the largest face, or the whole frame stretched to a square."""


def load_clip(video: epath.Path, audio: epath.Path | None, crop: Part) -> Clip:
    """Decodes a clip and checks that it can be used.

    Args:
        video: an mp4 file.
        audio: an m4a or wav file; None for the video file's own track.
        crop: what is kept of each frame.

    Returns:
        The clip.

    Raises:
        UnusableClipError: the files cannot be used, or a file is missing.
        OSError: a file exists but cannot be read.
        ImportError: faces are to be cut out, and the extra ``face`` is not installed.
    """
    video_bytes = read_file(video, Reason.MISSING_VIDEO)
    picture = decode_part(functools.partial(decode_frames, video_bytes, video.name), video.name, crop)
    if audio is None:
        samples, resampled = decode_audio(video_bytes, video.name, Reason.MISSING_AUDIO, picture.start)
    else:
        audio_bytes = read_file(audio, Reason.MISSING_AUDIO)
        samples, resampled = decode_audio(audio_bytes, audio.name, Reason.EMPTY_AUDIO, Fraction(0))
    return clip_of(picture, samples, resampled)


def decode_part(decode: Callable[[Encode], Picture], name: str, part: Part) -> Picture:
    """Decodes what is kept of each frame of a video file or of an excerpt of it.

    Args:
        decode: decodes it, as `video.decode_frames` does.
        name: the file's name, for messages.
        part: what is kept of each frame.

    Raises:
        UnusableClipError: it cannot be used, or has fewer than `MIN_FRAMES` frames.
        ImportError: faces are to be cut out, and the extra ``face`` is not installed.
    """
    if isinstance(part, FaceCrop):
        from data_pipeline.media.face_video import decode_face  # SciPy takes half a second to import

        picture = decode_face(decode, name, part.side, Crop(0, 0, part.side, part.side).jpeg)
    else:
        picture = decode(lambda time, frame: part.jpeg(frame))
    if len(picture.jpegs) < MIN_FRAMES:
        raise UnusableClipError(
            Reason.TOO_FEW_FRAMES, f"{len(picture.jpegs)} frames, {MIN_FRAMES} are needed"
        )
    return picture


def clip_of(picture: Picture, samples: np.ndarray, resampled: bool) -> Clip:
    """Joins a picture and its sound to a clip.

    Args:
        picture: the picture.
        samples: int16 [n], mono at `SAMPLE_RATE`.
        resampled: whether the sample rate was changed.

    Raises:
        UnusableClipError: there is too little sound, or the lengths differ.
    """
    if not len(samples):
        raise UnusableClipError(Reason.EMPTY_AUDIO, "no sound in it")
    if len(samples) < FEWEST_SAMPLES:
        raise UnusableClipError(
            Reason.TOO_SHORT_AUDIO, f"{len(samples)} samples, {FEWEST_SAMPLES} are needed"
        )
    check_lengths(len(picture.jpegs), len(samples))
    return Clip(picture.jpegs, samples, picture.resampled or resampled, picture.frame_size)


def check_lengths(n_frames: int, n_samples: int) -> None:
    """Checks that the lengths of a clip's picture (at `FPS`) and sound (at `SAMPLE_RATE`) agree.

    Raises:
        UnusableClipError: they differ by `MAX_LENGTH_DIFFERENCE` or more.
    """
    # In samples, because 1.2 - 1.1 is less than 0.1 in floating point.
    if abs(n_samples - n_frames * SAMPLE_RATE // FPS) >= MAX_LENGTH_DIFFERENCE * SAMPLE_RATE:
        raise UnusableClipError(
            Reason.LENGTH_MISMATCH,
            f"{n_samples / SAMPLE_RATE:.3f} s of sound, {n_frames / FPS:.3f} s of picture",
        )


def read_file(path: epath.Path, if_absent: Reason) -> bytes:
    """Reads a file of a clip.

    Args:
        path: of the file.
        if_absent: the reason to give if there is no such file.

    Raises:
        UnusableClipError: there is no such file, or it is too large.
        OSError: it exists but cannot be read.
    """
    if not may_be_file(path):
        raise UnusableClipError(if_absent, f"{path.name} is a directory, a pipe or a device")
    try:
        if file_length(path) > MAX_BYTES:
            raise UnusableClipError(Reason.TOO_LONG, f"{path.name} has more than {MAX_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableClipError(if_absent, f"no file {path.name}") from None
    except OSError as error:
        if not error.filename:  # an error while reading, unlike one while opening, does not name the file
            error.filename = os.fspath(path)
        raise
