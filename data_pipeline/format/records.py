"""The layout of one record's bytes. No other file depends on it.

A prepared set holds two TFDS data sets. Their records belong to each other by index:

* ``video``: record ``STRIDE * clip + phase`` has the face frames ``phase, phase + STRIDE, ...`` of one clip,
  each a JPEG of its own. This is the *polyphase* layout. A pre-training sample takes 16 frames at stride 4
  (paper, section 4.2), and all of them lie in one phase. So it needs one read of a quarter of the clip.
* ``audio``: record ``clip`` has the sound of the whole clip as int16 PCM, and the clip's number of frames. A
  reader needs that number to draw the first frame, which decides the phase to read.

The cost of reading the frames of one sample (``python -m benchmarks.record_layout``: 16 synthetic clips of
8 s with 200 frames of 6.6 kB on average, one core of a two-core machine, files in the page cache):

==============================  ========  ==========  ====================================
layout                          read, MB  read, ms    reading : decoding those 16 JPEGs
==============================  ========  ==========  ====================================
polyphase                       0.33      0.10        0.07
polyphase, 8 records a group    0.33      0.48        0.33
one record a clip               1.32      0.33        0.22
==============================  ========  ==========  ====================================

All three store 1.32 MB of video a clip. To parse a record takes 3 µs; with its checksum 82 µs; through TFDS
33 µs. So records are not grouped, and a reader can verify checksums at a small cost.

`payload` has the envelope and the header that these records share with others. After the header comes:

====================  =====================================================================================
video only            uint16 phase, stride, height, width; uint32 number of frames stored
audio only            uint32 sample rate; uint32 number of samples
name                  UTF-8, ``speaker/video/clip``
video only            uint32 offsets of the frames from the payload's start, and its length; then the JPEGs
audio only            int16 samples
====================  =====================================================================================
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.format.payload import (
    ARRAY_RECORD_OPTIONS,
    AUDIO_KIND,
    FEATURE,
    HEADER,
    VERSION,
    VIDEO_KIND,
    CorruptRecordError,
    frame_bytes,
    open_payload,
    read_name,
    seal,
    sound_bytes,
)

__all__ = [
    "ARRAY_RECORD_OPTIONS",
    "FEATURE",
    "STRIDE",
    "VERSION",
    "AudioRecord",
    "CorruptRecordError",
    "VideoRecord",
    "encode_audio",
    "encode_video",
    "parse_audio",
    "parse_video",
]

STRIDE = 4  # distance between two frames of a sample (paper, section 4.2), and so the number of phases

_VIDEO_HEADER = struct.Struct("<HHHHI")
_AUDIO_HEADER = struct.Struct("<II")


class VideoRecord(NamedTuple):
    """Every `stride`-th face frame of a clip, from frame `phase` on, as JPEG.

    Attributes:
        clip: name of the clip, ``speaker/video/clip``.
        n_frames: number of frames of the whole clip.
        phase: number (0-based) of the first frame stored.
        stride: frames of the clip between two that are stored.
        fps: frames a second of the whole clip.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        offsets: where each JPEG starts in `payload`, and where the last one ends.
        payload: the record's bytes.
    """

    clip: str
    n_frames: int
    phase: int
    stride: int
    fps: float
    height: int
    width: int
    offsets: tuple[int, ...]
    payload: memoryview

    @property
    def n_stored(self) -> int:
        """Number of frames in this record: those of ``range(phase, n_frames, stride)``."""
        return len(self.offsets) - 1

    def jpeg(self, index: int) -> memoryview:
        """Returns the JPEG of the clip's frame ``phase + stride * index``, without copying.

        Raises:
            IndexError: `index` is not in ``range(n_stored)``.
            CorruptRecordError: the offsets of that frame are impossible.
        """
        return frame_bytes(self.clip, self.payload, self.offsets, index)


class AudioRecord(NamedTuple):
    """The sound of a clip.

    Attributes:
        clip: name of the clip, ``speaker/video/clip``.
        n_frames: number of video frames of the clip, from which the first frame of a sample is drawn.
        fps: video frames a second.
        sample_rate: in Hz.
        samples: (n_samples,) int16, mono, read-only, a view of the record's bytes.
    """

    clip: str
    n_frames: int
    fps: float
    sample_rate: int
    samples: np.ndarray


def encode_video(
    clip: str,
    jpegs: Sequence[bytes],
    *,
    n_frames: int,
    phase: int,
    stride: int,
    fps: float,
    height: int,
    width: int,
) -> bytes:
    """Returns the stored bytes of a `VideoRecord`.

    Args:
        clip: name of the clip, ``speaker/video/clip``.
        jpegs: the frames ``range(phase, n_frames, stride)``, each a JPEG of `height` × `width`.
        n_frames: number of frames of the whole clip.
        phase: number (0-based) of the first frame stored.
        stride: frames of the clip between two that are stored.
        fps: frames a second of the whole clip.
        height: of a frame, in pixels.
        width: of a frame, in pixels.

    Raises:
        ValueError: the number of JPEGs is not that of the phase's frames, one is empty, or all are too long.
    """
    if len(jpegs) != len(range(phase, n_frames, stride)) or not all(jpegs):
        raise ValueError(
            f"{clip}: phase {phase} of {n_frames} frames at stride {stride} does not have {len(jpegs)} frames"
        )
    name = clip.encode()
    start = HEADER.size + _VIDEO_HEADER.size + len(name) + 4 * (len(jpegs) + 1)
    offsets = np.cumsum([start, *(len(jpeg) for jpeg in jpegs)])
    body = [
        _VIDEO_HEADER.pack(phase, stride, height, width, len(jpegs)),
        name,
        offsets.astype("<u4").tobytes(),
        *jpegs,
    ]
    return seal(VIDEO_KIND, name, n_frames, fps, body)


def encode_audio(clip: str, samples: np.ndarray, *, n_frames: int, fps: float, sample_rate: int) -> bytes:
    """Returns the stored bytes of an `AudioRecord`.

    Args:
        clip: name of the clip, ``speaker/video/clip``.
        samples: (n_samples,) int16, mono.
        n_frames: number of video frames of the clip.
        fps: video frames a second.
        sample_rate: in Hz.

    Raises:
        ValueError: `samples` has another shape or type.
    """
    name = clip.encode()
    body = [_AUDIO_HEADER.pack(sample_rate, len(samples)), name, sound_bytes(clip, samples)]
    return seal(AUDIO_KIND, name, n_frames, fps, body)


def parse_video(stored: bytes, *, checksum: bool = True) -> VideoRecord:
    """Reads a video record without copying the JPEGs.

    Args:
        stored: a record from `encode_video`, or only its payload, as ``tfds.data_source`` returns it.
        checksum: whether to verify the checksum, which reads every byte. ArrayRecord also verifies a hash of
            its own.

    Raises:
        CorruptRecordError: the bytes are not a video record, are damaged or are cut short.
    """
    payload, name_length, n_frames, fps = open_payload(stored, VIDEO_KIND, checksum)
    try:
        phase, stride, height, width, n_stored = _VIDEO_HEADER.unpack_from(payload, HEADER.size)
        name_at = HEADER.size + _VIDEO_HEADER.size
        clip = read_name(payload, name_at, name_length)
        offsets = struct.unpack_from(f"<{n_stored + 1}I", payload, name_at + name_length)
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptRecordError(f"video record's header: {error}") from error
    start = name_at + name_length + 4 * (n_stored + 1)
    if offsets[0] != start or offsets[-1] != len(payload):
        raise CorruptRecordError(
            f"{clip}: the table of frames does not fit the record's {len(payload)} bytes"
        )
    if stride == 0 or n_stored != len(range(phase, n_frames, stride)):
        raise CorruptRecordError(f"{clip}: {n_stored} frames are not phase {phase} of {n_frames} by {stride}")
    return VideoRecord(clip, n_frames, phase, stride, fps, height, width, offsets, payload)


def parse_audio(stored: bytes, *, checksum: bool = True) -> AudioRecord:
    """Reads an audio record; arguments and errors as in `parse_video`."""
    payload, name_length, n_frames, fps = open_payload(stored, AUDIO_KIND, checksum)
    try:
        sample_rate, n_samples = _AUDIO_HEADER.unpack_from(payload, HEADER.size)
        name_at = HEADER.size + _AUDIO_HEADER.size
        clip = read_name(payload, name_at, name_length)
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptRecordError(f"audio record's header: {error}") from error
    if len(payload) != name_at + name_length + 2 * n_samples:
        raise CorruptRecordError(f"{clip}: {n_samples} samples do not fit the record's {len(payload)} bytes")
    samples = np.frombuffer(payload, "<i2", n_samples, name_at + name_length)
    return AudioRecord(clip, n_frames, fps, sample_rate, samples)
