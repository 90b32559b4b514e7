"""Masks: counts, structure, order, and ratios that are refused."""

import jax
import numpy as np
import pytest

from hicmae_jax.model import masking

VIDEO, AUDIO = (8, 100), (16, 8)


def draw(kind, grid, ratio, fraction=1.0, decode_kind="random", clips=64):
    keys = jax.random.split(jax.random.key(3), clips)
    masks = jax.jit(jax.vmap(lambda key: masking.draw_mask(kind, key, grid, ratio, fraction, decode_kind)))(
        keys
    )
    return np.asarray(masks.visible), np.asarray(masks.masked)


@pytest.mark.parametrize(
    ("kind", "grid", "ratio", "visible_count"),
    [
        ("tube", VIDEO, 0.9, 80),
        ("tube", (8, 16), 0.9, 16),
        ("random", VIDEO, 0.75, 200),
        ("random", AUDIO, 0.8, 26),
        ("time", AUDIO, 0.8, 32),
        ("frequency", AUDIO, 0.8, 32),
    ],
)
def test_each_clip_splits_its_tokens_in_ascending_order(kind, grid, ratio, visible_count):
    visible, masked = draw(kind, grid, ratio)
    total = grid[0] * grid[1]
    assert masking.mask_sizes(kind, grid, ratio) == (visible_count, total - visible_count)
    assert visible.shape == (64, visible_count)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([visible, masked], 1)), np.tile(np.arange(total), (64, 1))
    )
    assert (np.diff(visible) > 0).all()
    assert (np.diff(masked) > 0).all()
    assert len(np.unique(visible, axis=0)) > 8, "clips must differ"


def test_tube_masks_the_same_places_in_every_slice():
    visible, _ = draw("tube", VIDEO, 0.9)
    places = visible.reshape(64, 8, 10)
    np.testing.assert_array_equal(places - 100 * np.arange(8)[:, None], np.repeat(places[:, :1], 8, 1))


def test_time_and_frequency_masks_are_whole_rows_and_columns():
    visible, _ = draw("time", AUDIO, 0.8)
    assert all(len(set(row // 8)) == 4 for row in visible)
    visible, _ = draw("frequency", AUDIO, 0.5)
    assert all(len(set(row % 8)) == 4 for row in visible)


@pytest.mark.parametrize(("kind", "grid", "ratio"), [("tube", VIDEO, 0.9), ("random", AUDIO, 0.8)])
def test_every_place_is_as_likely_as_any_other(kind, grid, ratio):
    visible, _ = draw(kind, grid, ratio, clips=4000)
    counts = np.bincount(visible.ravel(), minlength=grid[0] * grid[1])
    share = visible.shape[1] / (grid[0] * grid[1])
    deviation = np.sqrt(4000 * share * (1 - share))
    assert np.abs(counts - 4000 * share).max() < 4.5 * deviation


def test_dual_masking_decodes_a_random_subset_of_the_masked_tokens():
    visible, every = draw("tube", VIDEO, 0.9)
    same_visible, some = draw("tube", VIDEO, 0.9, fraction=0.5)
    np.testing.assert_array_equal(visible, same_visible)
    assert some.shape == (64, 360)
    assert all(set(part) < set(whole) for part, whole in zip(some, every))
    assert (np.diff(some) > 0).all()
    # Whatever slice a token is in, it may be kept: the subset does not follow the tubes.
    assert len(np.unique(np.bincount(some[0] % 100, minlength=100))) > 2


def test_running_cells_decode_each_masked_place_of_a_tube_in_half_of_the_slices():
    visible, every = draw("tube", VIDEO, 0.9)
    same_visible, some = draw("tube", VIDEO, 0.9, 0.5, "running_cell")
    np.testing.assert_array_equal(visible, same_visible)
    assert some.shape == (64, 360)
    assert (np.diff(some) > 0).all()
    for seen, whole, part in zip(visible, every, some):
        assert set(part) < set(whole)
        decoded = np.isin(np.arange(800), part).reshape(8, 10, 10)
        hidden = ~np.isin(np.arange(100), seen).reshape(10, 10)
        np.testing.assert_array_equal(decoded.sum(0), 4 * hidden)
        # Of a cell that is masked as a whole: two places in every slice, and all four in two slices.
        cells = decoded.reshape(8, 5, 2, 5, 2).sum((2, 4))
        whole_cells = hidden.reshape(5, 2, 5, 2).all((1, 3))
        assert (cells[:, whole_cells] == 2).all()
        np.testing.assert_array_equal(decoded[0] ^ decoded[2], hidden)
        assert np.abs(decoded.sum((1, 2)) - 45).max() <= 5
        assert not (decoded[0] == decoded[1]).all()


@pytest.mark.parametrize(
    ("kind", "grid", "ratio", "fraction"),
    [("tube", VIDEO, 0.9, 0.3), ("random", VIDEO, 0.75, 0.5), ("tube", (3, 25), 0.5, 0.5)],
)
def test_running_cells_take_the_same_number_of_tokens_from_any_mask(kind, grid, ratio, fraction):
    _, every = draw(kind, grid, ratio)
    _, some = draw(kind, grid, ratio, fraction, "running_cell")
    assert some.shape[1] == masking.mask_sizes(kind, grid, ratio, fraction)[1]
    assert all(set(part) < set(whole) for part, whole in zip(some, every))
    # Places share the decoded tokens more evenly than in a random draw from the same masks.
    _, at_random = draw(kind, grid, ratio, fraction)
    even, uneven = (
        np.var([np.bincount(part % grid[1], minlength=grid[1]) for part in parts])
        for parts in (some, at_random)
    )
    assert even < uneven


def test_running_cells_decode_every_place_and_slice_equally_often():
    _, some = draw("tube", VIDEO, 0.9, 0.5, "running_cell", clips=4000)
    counts = np.bincount(some.ravel(), minlength=800)
    assert np.abs(counts - 4000 * 0.45).max() < 4.5 * np.sqrt(4000 * 0.45 * 0.55)


@pytest.mark.parametrize("decode_kind", masking.DECODE_KINDS)
def test_the_mask_of_a_clip_depends_on_its_key_only(decode_kind):
    keys = jax.random.split(jax.random.key(0), 8)
    many = jax.vmap(lambda key: masking.draw_mask("tube", key, VIDEO, 0.9, 0.5, decode_kind))(keys)
    one = masking.draw_mask("tube", keys[5], VIDEO, 0.9, 0.5, decode_kind)
    np.testing.assert_array_equal(many.visible[5], one.visible)
    np.testing.assert_array_equal(many.masked[5], one.masked)


def test_indices_of_boolean_masks():
    mask = np.array([[0, 1, 1, 0], [1, 0, 0, 1]], bool)
    indices = masking.from_boolean(mask)
    np.testing.assert_array_equal(indices.visible, [[0, 3], [1, 2]])
    np.testing.assert_array_equal(indices.masked, [[1, 2], [0, 3]])
    with pytest.raises(ValueError, match="different numbers"):
        masking.from_boolean(np.array([[0, 1], [1, 1]], bool))


@pytest.mark.parametrize(
    ("kind", "grid", "ratio", "fraction", "message"),
    [
        ("tube", (8, 4), 0.2, 1.0, "leaves no masked"),
        ("tube", (8, 4), 1.0, 1.0, "leaves no visible"),
        ("random", AUDIO, 0.0, 1.0, "leaves no masked"),
        ("random", AUDIO, 1.5, 1.0, "leaves no visible"),
        ("checkerboard", AUDIO, 0.5, 1.0, "tube, random, time, frequency"),
        ("random", AUDIO, 0.8, 0.0, r"not in \(0, 1\]"),
        ("random", AUDIO, 0.8, 0.001, "none to decode"),
    ],
)
def test_impossible_masks_are_refused(kind, grid, ratio, fraction, message):
    with pytest.raises(ValueError, match=message):
        masking.draw_mask(kind, jax.random.key(0), grid, ratio, fraction)


def test_impossible_running_cells_are_refused():
    with pytest.raises(ValueError, match="a slice of 8 tokens is not square"):
        draw("random", AUDIO, 0.8, 0.5, "running_cell")
    with pytest.raises(ValueError, match="unknown decode kind 'cells'; choose from random, running_cell"):
        draw("tube", VIDEO, 0.9, 0.5, "cells")
