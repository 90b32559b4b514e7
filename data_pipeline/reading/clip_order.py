"""Which clip comes when: a function of (seed, position) alone, with no state to save.

Every epoch visits every clip once, in an order of its own. By default the order is a shuffle of the whole
set. For storage that dislikes reads from everywhere at once, the shuffle can be confined to windows of K
shards: shards come in random order, K at a time, and clips are shuffled within those K.

Permutations are sorted random numbers, kept while they are needed (4 bytes a clip). Grain's own shuffle is
a cipher over at least 2^16 places: it needs no memory, but in a small set it walks through thousands of
places outside the set for each one inside.
"""

import bisect
import functools
import itertools
from collections.abc import Sequence

import numpy as np

from data_pipeline.reading.requests import ClipRequest, hash_of

POSITIONS = 2**48
"""An endless stream, as far as Grain is concerned: at 100,000 clips a second it lasts 89 years."""


class ClipOrder:
    """Random access from a position in an endless stream to the clip that comes there.

    Args:
        shard_lengths: clips in each shard of the set.
        first_example: example id of the set's first clip.
        seed: of the run; sets that are mixed need different ones.
        window: shards to shuffle clips over, 0 for all.

    Raises:
        ValueError: no clips, or a negative window.
    """

    def __init__(
        self, shard_lengths: Sequence[int], first_example: int = 0, seed: int = 0, window: int = 0
    ) -> None:
        if window < 0:
            raise ValueError(f"shuffle window of {window} shards: choose 0 (all) or more")
        if not sum(shard_lengths):
            raise ValueError("no clip to put in order")
        self._lengths = tuple(shard_lengths)
        self._starts = (0, *itertools.accumulate(shard_lengths))
        self._first_example = first_example
        self._seed = seed
        self._window = window or len(shard_lengths)
        # An order's own, because many sets may be mixed; each needs this epoch's and perhaps the next one's.
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch_shards)
        self._permutation = functools.lru_cache(maxsize=4)(_permutation)

    def __reduce__(self) -> tuple:
        return ClipOrder, (self._lengths, self._first_example, self._seed, self._window)

    def __len__(self) -> int:
        return POSITIONS

    def __getitem__(self, position: int) -> ClipRequest:
        """The clip at a position, and the number its start frame is drawn by."""
        epoch, place = divmod(int(position), self._starts[-1])
        draw = (hash_of(self._seed, position) >> 11) / 2**53
        return ClipRequest(self._first_example + self._clip(epoch, place), draw)

    def _clip(self, epoch: int, place: int) -> int:
        shards, ends = self._epoch(epoch)
        # The window that the place falls into, and the place of its first clip.
        shard = bisect.bisect_right(ends, place)
        first_shard = shard - shard % self._window
        after_shard = min(first_shard + self._window, len(shards))
        start = ends[first_shard - 1] if first_shard else 0
        size = ends[after_shard - 1] - start
        shuffled = self._permutation(size, hash_of(self._seed, epoch, first_shard))
        place = start + int(shuffled[place - start])
        shard = bisect.bisect_right(ends, place)
        return self._starts[shards[shard]] + place - (ends[shard - 1] if shard else 0)

    def _epoch_shards(self, epoch: int) -> tuple[list[int], list[int]]:
        """The epoch's order of shards, and the place where each one's clips end."""
        shards = _permutation(len(self._lengths), hash_of(self._seed, epoch)).tolist()
        return shards, list(itertools.accumulate(self._lengths[shard] for shard in shards))


def _permutation(size: int, seed: int) -> np.ndarray:
    """A permutation of `size` numbers, uint32, the same with every version of NumPy.

    NumPy promises that of the numbers a bit generator makes, not of `Generator.permutation`.
    """
    return np.argsort(np.random.Philox(key=seed).random_raw(size), kind="stable").astype(np.uint32)
