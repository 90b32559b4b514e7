import gc

import jax
import numpy as np
import pytest

from data_pipeline.reading.recycled_arrays import RecycledArrays


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_after_the_last_view():
    arrays = RecycledArrays()
    first = arrays.empty((1_000, 10), np.int16)
    place, view = address(first), first[3:5].T
    del first
    gc.collect()
    assert address(arrays.empty((1_000, 10), np.int16)) != place  # `view` still looks at it
    del view
    gc.collect()
    assert address(arrays.empty((5_000, 2), np.int16)) == place


@pytest.mark.parametrize(
    "look",
    [
        lambda array: array.reshape(-1),
        lambda array: array.view(np.uint8),
        lambda array: memoryview(array),
        lambda array: np.lib.stride_tricks.as_strided(array, (2,), (20,)),
        lambda array: {"deep": [array[0], array.T]},
        lambda array: jax.block_until_ready(jax.device_put(array)),
        lambda array: np.asarray(array).flat,
    ],
)
def test_memory_with_a_view_is_not_reused(look):
    arrays = RecycledArrays()
    for _ in range(3):
        view = look(arrays.empty((1_000, 10), np.int32))
        gc.collect()
        other = arrays.empty((1_000, 10), np.int32)
        before = jax.tree.map(lambda leaf: np.array(leaf), jax.tree.leaves(view))
        other[:] += 1
        after = jax.tree.map(lambda leaf: np.array(leaf), jax.tree.leaves(view))
        assert all(map(np.array_equal, before, after))


def test_arrays_are_writable_and_of_the_shape_asked_for():
    array = RecycledArrays().empty((3, 0, 2), np.float64)
    assert (array.shape, array.dtype) == ((3, 0, 2), np.float64)
    array = RecycledArrays().empty((), np.uint8)
    array[...] = 7
    assert int(array) == 7


def test_memory_in_use_is_bounded_by_what_is_held_at_once():
    arrays, places = RecycledArrays(), set()
    held = [arrays.empty((100_000,), np.uint8) for _ in range(2)]
    for _ in range(50):
        held = [held[1], arrays.empty((100_000,), np.uint8)]
        places.add(address(held[1]))
    assert len(places) <= 3
