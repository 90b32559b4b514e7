"""What the records of all kinds share: magic, checksum, header and the envelope around the payload.

A stored record is a ``tf.train.Example``, the format that TFDS reads, with one bytes feature ``record``. That
feature is the payload. To parse this envelope, protobuf would copy the payload. `open_payload` skips the
envelope instead, and also accepts the payload without it, as ``tfds.data_source`` returns it.

A payload begins with this header (little-endian). `records` and `labelled_record` lay out what follows it.

====================  =====================================================================================
magic                 4 bytes ``HCMR``
checksum              uint32, CRC-32 of every byte after this field
length                uint32, of the whole payload
version, kind         uint8 each; kind 1 is video, 2 is audio, 3 is a labelled clip
name length           uint16
n_frames, fps         uint32, float64, of the whole clip
====================  =====================================================================================
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

FEATURE = "record"
VERSION = 1
ARRAY_RECORD_OPTIONS = "group_size:1,uncompressed"

VIDEO_KIND, AUDIO_KIND, CLIP_KIND = 1, 2, 3
HEADER = struct.Struct("<4sIIBBHId")

_MAGIC = b"HCMR"
_KIND_NAMES = {VIDEO_KIND: "video", AUDIO_KIND: "audio", CLIP_KIND: "a labelled clip"}
_CHECKED_FROM = 8  # the checksum covers what follows it
_ENVELOPE_AT_MOST = 64
_LONGEST = 2**32 - 1


class CorruptRecordError(ValueError):
    """Bytes that are not a record of the wanted kind; the message says what is wrong."""


def seal(kind: int, name: bytes, n_frames: int, fps: float, body: list[bytes]) -> bytes:
    """Adds header, checksum and envelope to the `body` of a payload.

    Raises:
        ValueError: the name or the whole record is too long.
    """
    length = HEADER.size + sum(map(len, body))
    if length > _LONGEST or len(name) >= 2**16:
        raise ValueError(f"{name[:80].decode(errors='replace')}: {length} bytes are too many for a record")
    header = HEADER.pack(_MAGIC, 0, length, VERSION, kind, len(name), n_frames, fps)
    checked = b"".join([header[_CHECKED_FROM:], *body])
    return b"".join([_envelope(length), _MAGIC, struct.pack("<I", zlib.crc32(checked)), checked])


def open_payload(stored: bytes, kind: int, checksum: bool) -> tuple[memoryview, int, int, float]:
    """Checks what all kinds have in common.

    Args:
        stored: a stored record, or only its payload.
        kind: the kind of record that is wanted.
        checksum: whether to verify the checksum, which reads every byte.

    Returns:
        The payload, the name's length in bytes, n_frames and fps.

    Raises:
        CorruptRecordError: the bytes are not a record of that kind, are damaged or are cut short.
    """
    start = stored.find(_MAGIC, 0, _ENVELOPE_AT_MOST)
    if start < 0:
        raise CorruptRecordError(f"not a record: no {_MAGIC!r} in its first {_ENVELOPE_AT_MOST} bytes")
    payload = memoryview(stored)[start:]
    if len(payload) < HEADER.size:
        raise CorruptRecordError(f"truncated: {len(payload)} bytes do not hold the header")
    _, crc, length, version, found, name_length, n_frames, fps = HEADER.unpack_from(payload)
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


def read_name(payload: memoryview, at: int, length: int) -> str:
    """Returns the name of a clip, `length` bytes of UTF-8 from `at` on.

    Raises:
        UnicodeDecodeError: they are no text.
    """
    return str(payload[at : at + length], "utf-8")


def frame_bytes(clip: str, payload: memoryview, offsets: Sequence[int], index: int) -> memoryview:
    """Returns the JPEG of stored frame `index`, without copying.

    Args:
        clip: name of the clip, for messages.
        payload: the record's bytes.
        offsets: where each JPEG starts, and where the last one ends.
        index: of the frame, among those stored.

    Raises:
        IndexError: there is no such frame.
        CorruptRecordError: the offsets of that frame are impossible.
    """
    n_stored = len(offsets) - 1
    if not 0 <= index < n_stored:
        raise IndexError(f"{clip}: frame {index} of {n_stored} stored")
    start, end = offsets[index], offsets[index + 1]
    if not offsets[0] <= start < end <= len(payload):
        raise CorruptRecordError(f"{clip}: bytes {start} to {end} of frame {index} are impossible")
    return payload[start:end]


def sound_bytes(clip: str, samples: np.ndarray) -> bytes:
    """Returns the bytes of sound as records store them.

    Args:
        clip: name of the clip, for messages.
        samples: (n_samples,) int16, mono.

    Raises:
        ValueError: `samples` has another shape or type.
    """
    if samples.ndim != 1 or samples.dtype != np.int16:
        raise ValueError(f"{clip}: sound must be (n_samples,) int16, not {samples.shape} {samples.dtype}")
    return samples.astype("<i2", copy=False).tobytes()


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
