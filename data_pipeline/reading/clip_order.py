"""The order of clips: a function of only (seed, position), with no state to save.

Every epoch visits every clip once, each epoch in another order. By default an epoch is a shuffle of the whole
set. Some storage reads slowly when reads are spread over all files. For it, clips can be shuffled within
windows of K shards: shards come in random order, K at a time, and clips are shuffled within those K.

A permutation takes 4 bytes a clip and is kept in memory while it is in use. Grain's own shuffle needs no
memory, but it is a cipher over at least 2^16 positions: in a small set it computes thousands of positions
outside the set for each position inside.
"""

import bisect
import functools
import itertools
from collections.abc import Sequence

import numpy as np

from data_pipeline.reading.requests import ClipRequest, hash_of

POSITIONS = 2**48
"""Length that the stream has for Grain: at 100,000 clips a second it lasts 89 years."""


class ClipOrder:
    """Gives the clip at any position of an endless stream.

    Args:
        shard_lengths: number of clips in each shard of the set.
        first_example: example id of the set's first clip.
        seed: of the shuffle; sets that are mixed need different seeds.
        window: number of shards to shuffle clips over; 0 for all.

    Raises:
        ValueError: no clips, or a negative window.
    """

    def __init__(
        self, shard_lengths: Sequence[int], first_example: int = 0, seed: int = 0, window: int = 0
    ) -> None:
        if window < 0:
            raise ValueError(f"shuffle window of {window} shards: choose 0 (all) or more")
        if not sum(shard_lengths):
            raise ValueError("the set holds no clip: there is nothing to put in order")
        self._lengths = tuple(shard_lengths)
        self._starts = (0, *itertools.accumulate(shard_lengths))
        self._first_example = first_example
        self._seed = seed
        self._window = window or len(shard_lengths)
        # Each order has caches of its own, because many sets may be mixed. Near the end of an epoch an order
        # needs the permutations of two epochs.
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch_shards)
        self._permutation = functools.lru_cache(maxsize=4)(_permutation)

    def __reduce__(self) -> tuple:
        return ClipOrder, (self._lengths, self._first_example, self._seed, self._window)

    def __len__(self) -> int:
        return POSITIONS

    def __getitem__(self, position: int) -> ClipRequest:
        """Returns the clip at a position, and the number that decides its first frame."""
        epoch, place = divmod(int(position), self._starts[-1])
        draw = (hash_of(self._seed, position) >> 11) / 2**53
        return ClipRequest(self._first_example + self._clip(epoch, place), draw)

    def _clip(self, epoch: int, place: int) -> int:
        shards, ends = self._epoch(epoch)
        # The window that holds the place: its first shard, its first place and its number of clips.
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
        """Returns the epoch's order of shards, and the place where the clips of each shard end."""
        shards = _permutation(len(self._lengths), hash_of(self._seed, epoch)).tolist()
        return shards, list(itertools.accumulate(self._lengths[shard] for shard in shards))


def _permutation(size: int, seed: int) -> np.ndarray:
    """Returns a permutation uint32[size] that is the same with every version of NumPy.

    NumPy guarantees this for the raw numbers of a bit generator, but not for `Generator.permutation`.
    """
    return np.argsort(np.random.Philox(key=seed).random_raw(size), kind="stable").astype(np.uint32)
