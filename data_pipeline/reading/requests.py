"""Requests for samples: a clip and where its sample starts, decided before anything is read."""

import hashlib
import struct
from typing import NamedTuple

NO_CLIP = -1
"""Example id of a row for which no clip could be read."""


class ClipRequest(NamedTuple):
    """One sample to read.

    Attributes:
        example: id of the clip: its number, counted over all sets of the source.
        draw: uniform in [0, 1); decides the first frame.
    """

    example: int
    draw: float


def hash_of(*numbers: int) -> int:
    """Hashes integers to 64 well-mixed bits, the same on every machine and in every version."""
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little")
