import itertools

import numpy as np
import pytest

from data_pipeline.reading import clip_share
from data_pipeline.reading.clip_order import ClipOrder

LENGTHS = (10, 0, 7, 30, 5, 1)
CLIPS = sum(LENGTHS)
SHARES = (0.01, 0.1, 0.25, 0.5, 0.9, 1.0)


def visited(order: ClipOrder, share: float, epoch: int) -> list[int]:
    size = clip_share.clips_of_share(CLIPS, share)
    return [order[position].example for position in range(epoch * size, (epoch + 1) * size)]


def test_a_larger_share_holds_every_smaller_one():
    chosen = [clip_share.choose(CLIPS, share) for share in SHARES]
    assert [len(clips) for clips in chosen] == [1, 5, 13, 26, 48, CLIPS]
    for smaller, larger in itertools.pairwise(chosen):
        assert set(smaller) <= set(larger)
    np.testing.assert_array_equal(chosen[-1], np.arange(CLIPS))


def test_the_clips_of_a_share_are_those_that_earlier_runs_saw():
    assert clip_share.choose(20, 0.25).tolist() == [0, 2, 9, 11, 17]


def test_the_clips_of_a_share_come_from_everywhere():
    chosen = clip_share.choose(100_000, 0.1)
    counts = np.histogram(chosen, bins=10, range=(0, 100_000))[0]
    assert np.sum((counts - 1_000) ** 2 / 900) < 28  # chi-square with 9 degrees of freedom: 0.1 %


def test_the_chosen_clips_are_counted_by_shard():
    chosen = clip_share.choose(CLIPS, 0.5)
    shards = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[chosen]
    expected = np.bincount(shards, minlength=len(LENGTHS)).tolist()
    assert list(clip_share.by_shard(chosen, LENGTHS)) == expected


@pytest.mark.parametrize("window", [0, 1, 2])
@pytest.mark.parametrize("share", [0.02, 0.25, 0.9])
def test_every_epoch_visits_the_clips_of_the_share_once(share, window):
    expected = (1_000 + clip_share.choose(CLIPS, share)).tolist()
    for seed in (1, 2):
        order = ClipOrder(LENGTHS, 1_000, seed, window, share)
        epochs = [visited(order, share, epoch) for epoch in range(3)]
        assert all(sorted(clips) == expected for clips in epochs)
    if share == 0.9:
        assert len(set(map(tuple, epochs))) == 3


def test_the_whole_share_changes_no_order():
    one, other = ClipOrder(LENGTHS, seed=7), ClipOrder(LENGTHS, seed=7, share=1.0)
    assert [one[place] for place in range(120)] == [other[place] for place in range(120)]
