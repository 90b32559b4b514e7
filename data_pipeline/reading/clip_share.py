"""The part of a set that is trained on, for studies over the amount of data.

The clips are drawn at random, but not with the seed of the run: every run has the same ones, and a larger
part holds every smaller one. So runs that differ in their share differ in nothing else.
"""

from collections.abc import Sequence

import numpy as np

from data_pipeline.reading.permutation import permutation

_SEED = 0


def clips_of_share(clips: int, share: float) -> int:
    """How many of a set's clips belong to a share of it; at least one.

    Args:
        clips: number of clips in the set.
        share: in (0, 1].
    """
    return min(clips, max(1, round(share * clips)))


def choose(clips: int, share: float) -> np.ndarray:
    """The clips of a share, in ascending order: uint32[`clips_of_share`].

    Args:
        clips: number of clips in the set.
        share: in (0, 1].
    """
    return np.sort(permutation(clips, _SEED)[: clips_of_share(clips, share)])


def by_shard(chosen: np.ndarray, shard_lengths: Sequence[int]) -> tuple[int, ...]:
    """How many of the chosen clips each shard holds.

    Args:
        chosen: numbers of clips in their set, ascending.
        shard_lengths: number of clips in each shard of the set.
    """
    ends = np.searchsorted(chosen, np.cumsum(shard_lengths))
    return tuple(np.diff(ends, prepend=0).tolist())
