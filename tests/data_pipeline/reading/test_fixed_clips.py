"""Held-out clips: each is read once, from its middle, in order, always the same; broken ones are left out."""

import numpy as np
import pytest

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.fixed_clips import FixedClips
from tests.support import set_fixtures

SAMPLING = ClipSampling(frames=4, stride=4)
LENGTHS = [20, 31, 16, 25, 40, 18, 22]


def rows(clips):
    return [
        {name: array[row] for name, array in batch.items()}
        for batch in clips
        for row in range(len(batch["example"]))
    ]


def test_each_clip_comes_once_in_order_from_its_middle(tmp_path):
    root = set_fixtures.write_set(tmp_path / "set", LENGTHS)
    clips = FixedClips([root], SAMPLING, batch=3)
    assert [len(batch["example"]) for batch in clips] == [3, 3, 1]
    read = rows(clips)
    assert [row["example"] for row in read] == list(range(7))
    for row, length in zip(read, LENGTHS):
        start = (length - 16 + 1) // 2
        red = row["frames"][:, 8, 8, 0].astype(int)  # the frame's number, but for JPEG's rounding
        np.testing.assert_allclose(red, start + 4 * np.arange(4), atol=2)
        np.testing.assert_array_equal(row["frames"].shape, (4, 16, 16, 3))
        assert row["audio"][0] == start * 640 % 30_000
        assert row["samples"] == min(17, length - start) * 640
    again = rows(clips)
    for row, other in zip(read, again):
        assert all(np.array_equal(row[name], other[name]) for name in row)


def test_batches_have_the_arrays_of_host_batch_without_replaced(tmp_path):
    root = set_fixtures.write_set(tmp_path / "set", LENGTHS)
    (batch,) = FixedClips([root], SAMPLING, batch=8)
    assert {name: array.dtype for name, array in batch.items()} == {
        "frames": np.uint8,
        "audio": np.int16,
        "samples": np.int32,
        "example": np.int32,
    }


def test_a_subset_is_spread_over_all_sets(tmp_path):
    first = set_fixtures.write_set(tmp_path / "first", LENGTHS)
    second = set_fixtures.write_set(tmp_path / "second", LENGTHS[:5])
    roots = [first, second]
    assert FixedClips(roots, SAMPLING, batch=3, count=4).examples == (0, 3, 6, 9)
    assert FixedClips(roots, SAMPLING, batch=3, count=12).examples == tuple(range(12))
    assert FixedClips(roots, SAMPLING, batch=3, count=99).examples == tuple(range(12))
    assert len(rows(FixedClips(roots, SAMPLING, batch=3, count=4))) == 4


def test_reading_does_not_depend_on_batch_or_threads(tmp_path):
    root = set_fixtures.write_set(tmp_path / "set", LENGTHS)
    one, other = (rows(FixedClips([root], SAMPLING, batch=n, threads=n)) for n in (1, 5))
    for row, twin in zip(one, other, strict=True):
        assert all(np.array_equal(row[name], twin[name]) for name in row)


def test_a_batch_is_no_larger_than_the_number_of_clips(tmp_path):
    """Each batch is padded to this size: 10⁹ would take terabytes for seven clips."""
    root = set_fixtures.write_set(tmp_path / "set", LENGTHS)
    assert FixedClips([root], SAMPLING, batch=10**9).batch == 7
    assert FixedClips([root], SAMPLING, batch=10**9, count=10**9).batch == 7
    assert FixedClips([root], SAMPLING, batch=10**9, count=4).batch == 4
    assert FixedClips([root], SAMPLING, batch=3, count=4).batch == 3


def test_broken_clips_are_left_out_named_and_logged_once(tmp_path, caplog):
    root = set_fixtures.write_set(tmp_path / "set", LENGTHS, silent=(1,), scrambled=(3, 4, 5))
    clips = FixedClips([root], SAMPLING, batch=3)
    assert [batch["example"].tolist() for batch in clips] == [[0, 2], [6]]
    assert sorted(clips.broken) == [1, 3, 4, 5]
    assert clips.broken[1].startswith(f"clip/1 (clip 1 of {root}): UnusableSampleError")
    list(clips)
    assert sum("Leaving out" in record.message for record in caplog.records) == 4


def test_no_readable_clip_at_all_is_an_error(tmp_path):
    root = set_fixtures.write_set(tmp_path / "set", LENGTHS, scrambled=(0,))
    clips = FixedClips([root], SAMPLING, batch=3, count=1)
    with pytest.raises(OSError, match=r"none of 1 held-out clips can be read, last clip/0 \(clip 0 of "):
        list(clips)


@pytest.mark.parametrize("numbers", [{"batch": 0}, {"batch": 1, "count": 0}, {"batch": 1, "threads": 0}])
def test_impossible_numbers_are_refused(tmp_path, numbers):
    with pytest.raises(ValueError, match="must all be at least 1"):
        FixedClips([tmp_path], SAMPLING, **numbers)
