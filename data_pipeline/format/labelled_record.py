"""The layout of the record that holds a labelled clip: all its frames and all its sound in one record.

Fine-tuning reads 16 frames at stride 4 or 3 from a random start, and evaluation reads two views of the whole
clip. Clips are short. So one record holds the clip, and a reader decodes only the frames that it needs.
Sound and frames are related by their relative position in the clip, so a frame rate is not stored.

After the header of `payload` (its fps is 0) comes, little-endian:

====================  =====================================================================================
uint16                height, width of a frame
uint32                sample rate; number of samples; number of frames, as in the header
name                  UTF-8, the clip's name
uint32                offsets of the frames from the payload's start, and its length
int16                 samples
bytes                 the JPEGs
====================  =====================================================================================
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.format.payload import (
    CLIP_KIND,
    HEADER,
    CorruptRecordError,
    frame_bytes,
    open_payload,
    read_name,
    seal,
    sound_bytes,
)

_CLIP_HEADER = struct.Struct("<HHIII")


class ClipRecord(NamedTuple):
    """A labelled clip.

    Attributes:
        clip: name of the clip.
        n_frames: number of frames.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        sample_rate: in Hz.
        offsets: where each JPEG starts in `payload`, and where the last one ends.
        samples: int16[n_samples], mono, read-only, a view of the record's bytes.
        payload: the record's bytes.
    """

    clip: str
    n_frames: int
    height: int
    width: int
    sample_rate: int
    offsets: tuple[int, ...]
    samples: np.ndarray
    payload: memoryview

    def jpeg(self, index: int) -> memoryview:
        """Returns the JPEG of frame `index`, without copying.

        Raises:
            IndexError: `index` is not in ``range(n_frames)``.
            CorruptRecordError: the offsets of that frame are impossible.
        """
        return frame_bytes(self.clip, self.payload, self.offsets, index)


def encode_clip(
    clip: str, jpegs: Sequence[bytes], samples: np.ndarray, *, height: int, width: int, sample_rate: int
) -> bytes:
    """Returns the stored bytes of a `ClipRecord`.

    Args:
        clip: name of the clip.
        jpegs: its frames, each a JPEG of `height` × `width`.
        samples: int16[n_samples], mono.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        sample_rate: in Hz.

    Raises:
        ValueError: there is no frame, a frame is empty, `samples` has another shape or type, or the record
            would be too long.
    """
    if not jpegs or not all(jpegs):
        raise ValueError(f"{clip}: a clip needs at least one frame, and no frame may be empty")
    name = clip.encode()
    sound = sound_bytes(clip, samples)
    start = HEADER.size + _CLIP_HEADER.size + len(name) + 4 * (len(jpegs) + 1) + len(sound)
    offsets = np.cumsum([start, *(len(jpeg) for jpeg in jpegs)])
    if offsets[-1] >= 2**32:
        raise ValueError(f"{clip}: {offsets[-1]} bytes are too many for a record")
    body = [
        _CLIP_HEADER.pack(height, width, sample_rate, len(samples), len(jpegs)),
        name,
        offsets.astype("<u4").tobytes(),
        sound,
        *jpegs,
    ]
    return seal(CLIP_KIND, name, len(jpegs), 0.0, body)


def parse_clip(stored: bytes, *, checksum: bool = True) -> ClipRecord:
    """Reads the record of a labelled clip without copying its frames or its sound.

    Args:
        stored: a record from `encode_clip`, or only its payload, as ``tfds.data_source`` returns it.
        checksum: whether to verify the checksum, which reads every byte. ArrayRecord also verifies a hash of
            its own.

    Raises:
        CorruptRecordError: the bytes are not such a record, are damaged or are cut short.
    """
    payload, name_length, n_frames, _ = open_payload(stored, CLIP_KIND, checksum)
    try:
        height, width, sample_rate, n_samples, n_stored = _CLIP_HEADER.unpack_from(payload, HEADER.size)
        name_at = HEADER.size + _CLIP_HEADER.size
        clip = read_name(payload, name_at, name_length)
        offsets = struct.unpack_from(f"<{n_stored + 1}I", payload, name_at + name_length)
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptRecordError(f"labelled clip's header: {error}") from error
    sound_at = name_at + name_length + 4 * (n_stored + 1)
    if n_stored != n_frames:
        raise CorruptRecordError(f"{clip}: {n_stored} frames are stored, the header says {n_frames}")
    if offsets[0] != sound_at + 2 * n_samples or offsets[-1] != len(payload):
        raise CorruptRecordError(
            f"{clip}: {n_samples} samples and the table of frames do not fit the record's "
            f"{len(payload)} bytes"
        )
    samples = np.frombuffer(payload, "<i2", n_samples, sound_at)
    return ClipRecord(clip, n_frames, height, width, sample_rate, offsets, samples, payload)
