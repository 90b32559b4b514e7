"""The order of clips: a function of only (seed, position), with no state to save.

Every epoch visits every clip once, each epoch in another order. By default an epoch is a shuffle of the whole
set. Some storage reads slowly when reads are spread over all files. For it, clips can be shuffled within
windows of K shards: shards come in random order, K at a time, and clips are shuffled within those K.

A permutation takes 4 bytes a clip and is kept in memory while it is in use.
"""

import bisect
import functools
import itertools
import threading
from collections.abc import Sequence

from data_pipeline.reading import clip_share
from data_pipeline.reading.permutation import permutation
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
        share: of the clips, in (0, 1]; see `clip_share`.

    Raises:
        ValueError: no clips, or a negative window.
    """

    def __init__(
        self,
        shard_lengths: Sequence[int],
        first_example: int = 0,
        seed: int = 0,
        window: int = 0,
        share: float = 1.0,
    ) -> None:
        if window < 0:
            raise ValueError(f"shuffle window of {window} shards: choose 0 (all) or more")
        if not sum(shard_lengths):
            raise ValueError("the set holds no clip: there is nothing to put in order")
        self._given = (tuple(shard_lengths), first_example, seed, window, share)
        # Without a share the clips are known by their places.
        self._chosen = None if share == 1 else clip_share.choose(sum(shard_lengths), share)
        chosen = self._chosen
        self._lengths = self._given[0] if chosen is None else clip_share.by_shard(chosen, shard_lengths)
        self._starts = (0, *itertools.accumulate(self._lengths))
        self._first_example = first_example
        self._seed = seed
        self._window = window or len(shard_lengths)
        # Each order has caches of its own, because many sets may be mixed. Near the end of an epoch an order
        # needs the permutations of two epochs.
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch_shards)
        self._permutation = functools.lru_cache(maxsize=4)(permutation)
        # Threads that read ahead need a new permutation at the same time. One makes it and the others wait:
        # making it takes five times the memory that it keeps.
        self._making = threading.Lock()

    def __reduce__(self) -> tuple:
        return ClipOrder, self._given

    def __len__(self) -> int:
        return POSITIONS

    def __getitem__(self, position: int) -> ClipRequest:
        """Returns the clip at a position, and the number that decides its first frame."""
        epoch, place = divmod(int(position), self._starts[-1])
        draw = (hash_of(self._seed, position) >> 11) / 2**53
        clip = self._clip(epoch, place)
        if self._chosen is not None:
            clip = int(self._chosen[clip])
        return ClipRequest(self._first_example + clip, draw)

    def shards_of(self, first: int, last: int) -> list[int]:
        """The shards of the windows that hold some positions, and those of the window after them.

        Args:
            first: the first position.
            last: the last position.

        Returns:
            Numbers of shards with clips, each once, in the order of the windows.
        """
        found: dict[int, None] = {}
        position, past = first, False
        while not past:
            past = position > last
            epoch, place = divmod(position, self._starts[-1])
            shards, ends = self._epoch(epoch)
            first_shard, after_shard = self._window_of(ends, place)
            found |= dict.fromkeys(s for s in shards[first_shard:after_shard] if self._lengths[s])
            position = epoch * self._starts[-1] + ends[after_shard - 1]
        return list(found)

    def _window_of(self, ends: list[int], place: int) -> tuple[int, int]:
        """The window that holds a place: its first shard, and the one after its last."""
        shard = bisect.bisect_right(ends, place)
        first_shard = shard - shard % self._window
        return first_shard, min(first_shard + self._window, len(ends))

    def _clip(self, epoch: int, place: int) -> int:
        shards, ends = self._epoch(epoch)
        first_shard, after_shard = self._window_of(ends, place)
        # The first place of the window, and its number of clips.
        start = ends[first_shard - 1] if first_shard else 0
        size = ends[after_shard - 1] - start
        with self._making:
            shuffled = self._permutation(size, hash_of(self._seed, epoch, first_shard))
        place = start + int(shuffled[place - start])
        shard = bisect.bisect_right(ends, place)
        return self._starts[shards[shard]] + place - (ends[shard - 1] if shard else 0)

    def _epoch_shards(self, epoch: int) -> tuple[list[int], list[int]]:
        """Returns the epoch's order of shards, and the place where the clips of each shard end."""
        shards = permutation(len(self._lengths), hash_of(self._seed, epoch)).tolist()
        return shards, list(itertools.accumulate(self._lengths[shard] for shard in shards))
