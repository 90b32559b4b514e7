import collections
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_pipeline.reading import clip_order, permutation
from data_pipeline.reading.clip_order import ClipOrder

LENGTHS = (10, 0, 7, 30, 5, 1)
CLIPS = sum(LENGTHS)
SHARDS = np.repeat(np.arange(len(LENGTHS)), LENGTHS)


def epoch(order: ClipOrder, number: int) -> list[int]:
    return [order[position].example for position in range(number * CLIPS, (number + 1) * CLIPS)]


@pytest.mark.parametrize("window", [0, 1, 2, 4, 100])
def test_every_epoch_visits_every_clip_once_in_its_own_order(window):
    order = ClipOrder(LENGTHS, first_example=1_000, seed=5, window=window)
    epochs = [epoch(order, number) for number in range(4)]
    for visited in epochs:
        assert sorted(visited) == list(range(1_000, 1_000 + CLIPS))
    assert len({tuple(visited) for visited in epochs}) == 4


@pytest.mark.parametrize("window", [1, 2, 4])
def test_a_window_holds_the_clips_of_that_many_shards(window):
    shards = SHARDS[epoch(ClipOrder(LENGTHS, seed=1, window=window), 2)]
    visited = list(dict.fromkeys(shards))  # in the order of their first clip
    place = 0
    while visited:
        empty_or_full = sum(np.sort(LENGTHS) == 0)
        for count in range(window, window - empty_or_full - 1, -1):  # an empty shard may be in the window
            here = visited[:count]
            size = sum(LENGTHS[shard] for shard in here)
            if set(shards[place : place + size]) == set(here):
                break
        else:
            pytest.fail(f"{shards[place:]} does not begin with {window} whole shards")
        visited, place = visited[count:], place + size


def test_clips_are_shuffled_within_a_window():
    shards = SHARDS[epoch(ClipOrder(LENGTHS, seed=3, window=100), 0)]
    assert np.mean(shards[1:] != shards[:-1]) > 0.4


def test_first_places_are_uniform_over_seeds():
    # The first clip of the epoch, over 5,300 seeds: chi-square with 52 degrees of freedom.
    first = collections.Counter(ClipOrder(LENGTHS, seed=seed)[0].example for seed in range(100 * CLIPS))
    chi_square = sum((first[clip] - 100) ** 2 / 100 for clip in range(CLIPS))
    assert chi_square < 95  # exceeded with probability 2e-4


def test_draws_are_uniform_and_differ_between_visits():
    order = ClipOrder([1], seed=2)
    draws = np.array([order[position].draw for position in range(4_000)])
    assert len(np.unique(draws)) == 4_000
    assert np.abs(np.sort(draws) - (np.arange(4_000) + 0.5) / 4_000).max() < 0.03  # Kolmogorov-Smirnov
    assert ClipOrder([1], seed=3)[0].draw != draws[0]


def test_the_order_is_the_one_that_earlier_runs_saw():
    # A resumed run must continue the same shuffle: these values may never change.
    order = ClipOrder((4, 3, 5), seed=7, window=2)
    assert [order[position].example for position in (0, 1, 2, 11, 12, 2**40)] == [8, 9, 10, 1, 1, 6]
    assert order[12].draw == 0.5903425812475934


@pytest.mark.parametrize("size", [1, 2, 3, 1_000, 32_768, 32_769, 300_000])
@pytest.mark.parametrize("kept", [0, 3, 20, 64])
def test_the_permutation_is_that_of_a_stable_sort(size, kept):
    # Few random bits, at the top or at the bottom, make long runs of keys that are alike or the same.
    random = np.random.Philox(key=size).random_raw(size)
    top = np.uint64(2**64 - 2 ** (64 - kept))
    bottom = np.uint64(2**kept - 1)
    for keys in (random & top, random & bottom, random & (top | np.uint64(1))):
        before = keys.copy()
        order = permutation.stable_order(keys)
        assert order.dtype == np.uint32
        np.testing.assert_array_equal(order, np.argsort(before, kind="stable"))
        np.testing.assert_array_equal(keys, before)


def test_a_large_permutation_is_the_one_that_earlier_runs_saw():
    # Three pairs of these keys have the same upper bits: without the repair, four places would differ.
    keys = np.random.Philox(key=11).random_raw(5_000_000)
    order = permutation.permutation(5_000_000, 11)
    np.testing.assert_array_equal(order, np.argsort(keys, kind="stable"))


def test_a_pickled_order_is_the_same():
    order = ClipOrder(LENGTHS, first_example=9, seed=5, window=2, share=0.5)
    copy = pickle.loads(pickle.dumps(order))
    assert [copy[position] for position in range(200)] == [order[position] for position in range(200)]


def test_mixing_many_sets_does_not_shuffle_them_again_and_again(monkeypatch):
    made = []
    permute = permutation.permutation
    monkeypatch.setattr(clip_order, "permutation", lambda *arguments: made.append(1) or permute(*arguments))
    orders = [ClipOrder(LENGTHS, seed=seed) for seed in range(40)]
    for position in (0, 1, CLIPS - 1, CLIPS, 2, CLIPS + 1):  # the turn of the epoch goes back and forth
        for order in orders:
            order[position]
    assert len(made) == 40 * 2 * 2  # of shards and of clips, in two epochs


def test_threads_that_need_a_permutation_at_once_make_one(monkeypatch):
    made, all_here = [], threading.Barrier(4)

    def slow(size, seed):
        made.append(size)
        time.sleep(0.05)
        return permutation.permutation(size, seed)

    monkeypatch.setattr(clip_order, "permutation", slow)
    order = ClipOrder([1_000])

    def read(position):
        all_here.wait()
        return order[position].example

    with ThreadPoolExecutor(4) as pool:
        read_at_once = list(pool.map(read, range(4)))
    assert made.count(1_000) == 1
    assert read_at_once == [ClipOrder([1_000])[position].example for position in range(4)]


def test_impossible_orders_are_refused():
    with pytest.raises(ValueError, match="no clip"):
        ClipOrder([0, 0])
    with pytest.raises(ValueError, match="window of -1"):
        ClipOrder([1], window=-1)
