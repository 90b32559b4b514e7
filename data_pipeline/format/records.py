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

A stored record is a ``tf.train.Example``, the format that TFDS reads, with one bytes feature ``record``. That
feature is the payload, laid out below (little-endian). To parse this envelope, protobuf would copy the
payload. `parse_video` and `parse_audio` skip the envelope instead, and also accept the payload without it, as
``tfds.data_source`` returns it.

====================  =====================================================================================
magic                 4 bytes ``HCMR``
checksum              uint32, CRC-32 of every byte after this field
length                uint32, of the whole payload
version, kind         uint8 each; kind 1 is video, 2 is audio (others are free for layouts to come)
name length           uint16
n_frames, fps         uint32, float64, of the whole clip
video only            uint16 phase, stride, height, width; uint32 number of frames stored
audio only            uint32 sample rate; uint32 number of samples
name                  UTF-8, ``speaker/video/clip``
video only            uint32 offsets of the frames from the payload's start, and its length; then the JPEGs
audio only            int16 samples
====================  =====================================================================================
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

STRIDE = 4  # distance between two frames of a sample (paper, section 4.2), and so the number of phases
FEATURE = "record"
VERSION = 1
ARRAY_RECORD_OPTIONS = "group_size:1,uncompressed"

_MAGIC = b"HCMR"
_VIDEO, _AUDIO = 1, 2
_KIND_NAMES = {_VIDEO: "video", _AUDIO: "audio"}
_HEADER = struct.Struct("<4sIIBBHId")
_VIDEO_HEADER = struct.Struct("<HHHHI")
_AUDIO_HEADER = struct.Struct("<II")
_CHECKED_FROM = 8  # the checksum covers what follows it
_ENVELOPE_AT_MOST = 64
_LONGEST = 2**32 - 1


class CorruptRecordError(ValueError):
    """Bytes that are not a record of the wanted kind; the message says what is wrong."""


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
        if not 0 <= index < self.n_stored:
            raise IndexError(f"{self.clip}: frame {index} of {self.n_stored} stored")
        start, end = self.offsets[index], self.offsets[index + 1]
        if not self.offsets[0] <= start < end <= len(self.payload):
            raise CorruptRecordError(f"{self.clip}: bytes {start} to {end} of frame {index} are impossible")
        return self.payload[start:end]


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
    start = _HEADER.size + _VIDEO_HEADER.size + len(name) + 4 * (len(jpegs) + 1)
    offsets = np.cumsum([start, *(len(jpeg) for jpeg in jpegs)])
    body = [
        _VIDEO_HEADER.pack(phase, stride, height, width, len(jpegs)),
        name,
        offsets.astype("<u4").tobytes(),
        *jpegs,
    ]
    return _seal(_VIDEO, name, n_frames, fps, body)


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
    if samples.ndim != 1 or samples.dtype != np.int16:
        raise ValueError(f"{clip}: sound must be (n_samples,) int16, not {samples.shape} {samples.dtype}")
    name = clip.encode()
    body = [_AUDIO_HEADER.pack(sample_rate, len(samples)), name, samples.astype("<i2", copy=False).tobytes()]
    return _seal(_AUDIO, name, n_frames, fps, body)


def parse_video(stored: bytes, *, checksum: bool = True) -> VideoRecord:
    """Reads a video record without copying the JPEGs.

    Args:
        stored: a record from `encode_video`, or only its payload, as ``tfds.data_source`` returns it.
        checksum: whether to verify the checksum, which reads every byte. ArrayRecord also verifies a hash of
            its own.

    Raises:
        CorruptRecordError: the bytes are not a video record, are damaged or are cut short.
    """
    payload, name_length, n_frames, fps = _open(stored, _VIDEO, checksum)
    try:
        phase, stride, height, width, n_stored = _VIDEO_HEADER.unpack_from(payload, _HEADER.size)
        name_at = _HEADER.size + _VIDEO_HEADER.size
        clip = str(payload[name_at : name_at + name_length], "utf-8")
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
    payload, name_length, n_frames, fps = _open(stored, _AUDIO, checksum)
    try:
        sample_rate, n_samples = _AUDIO_HEADER.unpack_from(payload, _HEADER.size)
        name_at = _HEADER.size + _AUDIO_HEADER.size
        clip = str(payload[name_at : name_at + name_length], "utf-8")
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptRecordError(f"audio record's header: {error}") from error
    if len(payload) != name_at + name_length + 2 * n_samples:
        raise CorruptRecordError(f"{clip}: {n_samples} samples do not fit the record's {len(payload)} bytes")
    samples = np.frombuffer(payload, "<i2", n_samples, name_at + name_length)
    return AudioRecord(clip, n_frames, fps, sample_rate, samples)


def _seal(kind: int, name: bytes, n_frames: int, fps: float, body: list[bytes]) -> bytes:
    """Adds header, checksum and envelope to the `body` of a payload."""
    length = _HEADER.size + sum(map(len, body))
    if length > _LONGEST or len(name) >= 2**16:
        raise ValueError(f"{name[:80].decode(errors='replace')}: {length} bytes are too many for a record")
    header = _HEADER.pack(_MAGIC, 0, length, VERSION, kind, len(name), n_frames, fps)
    checked = b"".join([header[_CHECKED_FROM:], *body])
    return b"".join([_envelope(length), _MAGIC, struct.pack("<I", zlib.crc32(checked)), checked])


def _open(stored: bytes, kind: int, checksum: bool) -> tuple[memoryview, int, int, float]:
    """Checks what all kinds have in common; returns the payload, the name's length, n_frames and fps."""
    start = stored.find(_MAGIC, 0, _ENVELOPE_AT_MOST)
    if start < 0:
        raise CorruptRecordError(f"not a record: no {_MAGIC!r} in its first {_ENVELOPE_AT_MOST} bytes")
    payload = memoryview(stored)[start:]
    if len(payload) < _HEADER.size:
        raise CorruptRecordError(f"truncated: {len(payload)} bytes do not hold the header")
    _, crc, length, version, found, name_length, n_frames, fps = _HEADER.unpack_from(payload)
    if version != VERSION:
        raise CorruptRecordError(f"version {version}, where this code reads {VERSION}")
    if length != len(payload):
        raise CorruptRecordError(f"truncated: {len(payload)} of {length} bytes")
    if found != kind:
        name = _KIND_NAMES.get(found, f"kind {found}")
        raise CorruptRecordError(f"a record of {name}, where one of {_KIND_NAMES[kind]} was asked for")
    if checksum and zlib.crc32(payload[_CHECKED_FROM:]) != crc:
        raise CorruptRecordError(f"checksum of {length} bytes is not {crc:#010x}")
    return payload, name_length, n_frames, fps


def _envelope(length: int) -> bytes:
    """Returns the bytes before a payload of `length` bytes in a ``tf.train.Example`` with the one `FEATURE`.

    They are not made by protobuf, which would copy the payload.
    """
    name = FEATURE.encode()
    prefix = b""
    # Innermost first: BytesList.value, Feature.bytes_list, the map's value.
    for tag in (b"\x0a", b"\x0a", b"\x12"):
        prefix = tag + _varint(len(prefix) + length) + prefix
    prefix = b"\x0a" + _varint(len(name)) + name + prefix  # the map's key
    for tag in (b"\x0a", b"\x0a"):  # Features.feature, Example.features
        prefix = tag + _varint(len(prefix) + length) + prefix
    return prefix


def _varint(number: int) -> bytes:
    """Encodes a length as protobuf does: seven bits a byte, least significant first."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
