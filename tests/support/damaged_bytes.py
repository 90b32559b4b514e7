"""Files that are cut short, lack a part or have wrong bytes."""

from collections.abc import Iterator

import numpy as np


def damaged(whole: bytes, turns: int = 16) -> Iterator[bytes]:
    """Yield damaged copies of a file's bytes; the same ones at each call."""
    rng = np.random.default_rng(0)
    for turn in range(turns):
        data = bytearray(whole)
        place = int(rng.integers(len(data)))
        if turn % 4 == 0:
            del data[place:]
        elif turn % 4 == 1:
            del data[place : place + 1_000]
        else:
            for changed in rng.integers(0, len(data), 20):
                data[changed] = rng.integers(256)
        yield bytes(data)
