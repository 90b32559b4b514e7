"""The order of clips: a function of only (seed, position), with no state to save.

Every epoch visits every clip once, each epoch in another order. By default an epoch is a shuffle of the whole
set. Some storage reads slowly when reads are spread over all files. For it, clips can be shuffled within
windows of K shards: shards come in random order, K at a time, and clips are shuffled within those K.

A permutation takes 4 bytes a clip and is kept in memory while it is in use. To make it takes 16 bytes more a
clip, and 0.3 s of processor time for 10 million clips. Grain's own shuffle needs no memory, but it is a
cipher over at least 2^16 positions: in a small set it computes thousands of positions outside the set for
each position inside.
"""

import bisect
import functools
import itertools
from collections.abc import Sequence

import numpy as np

from data_pipeline.reading.requests import ClipRequest, hash_of

POSITIONS = 2**48
"""Length that the stream has for Grain: at 100,000 clips a second it lasts 89 years."""

_BLOCK = 2**15  # keys that are handled at a time, so that they stay in the processor's cache


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
    return _stable_order(np.random.Philox(key=seed).random_raw(size))


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """Returns what ``np.argsort(keys, kind="stable")`` returns, in an eighth of its time for random keys.

    NumPy sorts numbers several times as fast as it sorts places by their numbers. So the lowest bits of each
    key are replaced by its place, and these numbers are sorted. Keys that differ only in the bits that were
    replaced, about 50 pairs among 10 million random keys, are then put in order by their whole values.

    Args:
        keys: uint64[size], at most 2^32 of them.

    Returns:
        The places of the keys, in ascending order of the keys, uint32[size].
    """
    places = np.uint64((1 << max(len(keys) - 1, 0).bit_length()) - 1)  # the bits that hold a place
    numbers, order = np.empty_like(keys), np.empty(len(keys), np.uint32)
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(keys), _BLOCK)]
    for block in blocks:
        np.bitwise_and(keys[block], ~places, out=numbers[block])
        numbers[block] |= np.arange(block.start, block.start + len(numbers[block]), dtype=np.uint64)
    numbers.sort()
    alike = [np.zeros(0, np.int64)]  # where a number and the next have the same upper bits
    for block in blocks:
        order[block] = numbers[block] & places
        after = numbers[block.start + 1 : block.stop + 1]
        alike.append(block.start + np.flatnonzero((numbers[block][: len(after)] ^ after) <= places))
    firsts = np.concatenate(alike)
    for run in np.split(firsts, np.flatnonzero(np.diff(firsts) > 1) + 1):
        if len(run):
            members = order[run[0] : run[-1] + 2]
            members[:] = members[np.argsort(keys[members], kind="stable")]
    return order
