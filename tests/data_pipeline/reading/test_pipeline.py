import dataclasses
import logging
import math
import multiprocessing
import os
import shutil

import grain
import numpy as np
import pytest

from data_pipeline.reading import worker_batches
from data_pipeline.reading.clip_order import ClipOrder
from data_pipeline.reading.clip_share import choose
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from data_pipeline.reading.requests import hash_of
from data_pipeline.reading.sources import ClipSet
from tests.support.set_fixtures import write_set
from tests.support.shard_damage import flip_bytes, shard, truncate

FRAMES = [70, 100, 64, 61, 80, 90, 120, 75, 66, 30, 71, 130, 99, 64, 85, 90, 77, 64, 101, 68]
BATCH = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(write_set(tmp_path_factory.mktemp("set"), FRAMES))


@pytest.fixture
def broken(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "set")
    flip_bytes(shard(copy, "video", 0), 0.3, 0.35)
    truncate(shard(copy, "audio", 2))
    return copy


def config(*roots, **changes) -> PipelineConfig:
    return PipelineConfig(**{"data": roots, "batch": BATCH, "seed": 3, "threads": 2} | changes)


def read(settings: PipelineConfig, steps: int, first_step: int = 0, rows=None) -> list[dict[str, np.ndarray]]:
    with Pipeline(settings, rows).batches(first_step) as stream:
        return take(stream, steps)


def take(stream, steps: int) -> list[dict[str, np.ndarray]]:
    return [next(stream) for _ in range(steps)]


def assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def host_rows(host: int, hosts: int) -> range:
    """A contiguous share of the rows."""
    return range(host * BATCH // hosts, (host + 1) * BATCH // hosts)


def join(hosts: list[list[dict[str, np.ndarray]]]) -> list[dict[str, np.ndarray]]:
    return [
        {name: np.concatenate([batch[name] for batch in step]) for name in step[0]} for step in zip(*hosts)
    ]


def test_a_batch_has_the_arrays_of_host_batch(root):
    (batch,) = read(config(root), 1)
    shapes = {name: (array.shape, str(array.dtype)) for name, array in batch.items()}
    assert shapes == {
        "frames": ((8, 16, 16, 16, 3), "uint8"),
        "audio": ((8, 41_600), "int16"),
        "samples": ((8,), "int32"),
        "example": ((8,), "int32"),
        "replaced": ((8,), "bool"),
    }
    assert not batch["replaced"].any()
    assert Pipeline(config(root)).batch_bytes == batch["frames"].nbytes + batch["audio"].nbytes


@pytest.mark.parametrize("hosts", [2, 4, 8])
@pytest.mark.parametrize("window", [0, 2])
def test_the_rows_of_all_hosts_make_the_global_batch(root, hosts, window):
    settings = config(root, shuffle_window=window)
    parts = [read(settings, 4, rows=host_rows(host, hosts)) for host in range(hosts)]
    assert_same(join(parts), read(settings, 4))


def test_any_rows_can_be_read(root):
    rows = [1, 2, 6]
    expected = [{name: array[rows] for name, array in batch.items()} for batch in read(config(root), 2)]
    assert_same(read(config(root), 2, rows=rows), expected)


@pytest.mark.parametrize("changes", [{"threads": 1}, {"threads": 5, "prefetch": 4}])
def test_threads_and_prefetch_do_not_matter(root, changes):
    assert_same(read(config(root, **changes), 5), read(config(root), 5))


@pytest.mark.parametrize("first_step", [1, 3, 1_000])
def test_a_restart_continues_the_stream(root, first_step):
    whole = read(config(root), 3, first_step - 1)
    assert_same(read(config(root), 2, first_step), whole[1:])


def test_an_epoch_is_every_clip_once(root):
    settings = config(root, batch=5)
    assert Pipeline(settings).steps_per_epoch == 4
    epochs = np.reshape([batch["example"] for batch in read(settings, 8)], (2, -1))
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(20), (2, 1)))
    assert (epochs[0] != epochs[1]).any()


def test_an_epoch_of_a_share_is_each_of_its_clips_once(root, tmp_path):
    other = str(write_set(tmp_path / "other", FRAMES[:8]))
    settings = config(root, other, batch=3, share=0.5)
    pipeline = Pipeline(settings)
    assert (pipeline.clips, pipeline.steps_per_epoch) == (14, 4)
    epochs = np.concatenate([batch["example"] for batch in read(settings, 14)])
    seen, times = np.unique(epochs, return_counts=True)  # 42 clips are 3 epochs of both sets
    assert seen.tolist() == [*choose(20, 0.5), *(20 + choose(8, 0.5))]
    assert (times == 3).all()


def test_seeds_differ(root):
    one, other = read(config(root), 1)[0], read(config(root, seed=4), 1)[0]
    assert (one["example"] != other["example"]).any()


def test_sets_are_mixed_by_weight_on_any_host(root, tmp_path):
    small = str(write_set(tmp_path / "small", [64] * 8))
    settings = config(root, small, weights=(1.0, 3.0))
    batches = read(settings, 25)
    from_small = np.concatenate([batch["example"] for batch in batches]) >= len(FRAMES)
    assert from_small.mean() == 0.75
    parts = [read(settings, 2, first_step=10, rows=host_rows(host, 2)) for host in range(2)]
    assert_same(join(parts), batches[10:12])
    # Without weights a set counts by its clips: 8 of 28.
    plain = np.concatenate([batch["example"] for batch in read(config(root, small, batch=28), 4)])
    assert (plain >= len(FRAMES)).sum() == pytest.approx(4 * 8, abs=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(write_set(tmp_path_factory.mktemp("small") / "few", [64, 70, 80, 90, 75]))


def ids(settings: PipelineConfig, count: int) -> np.ndarray:
    """Example ids of the first rows, without reading them."""
    order = Pipeline(settings).order()
    return np.array([order[position].example for position in range(count)])


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.2),
        ({"temperature": 2.0}, 1 / 3),  # 5 and 20 clips: 1 to 2
        ({"temperature": math.inf}, 0.5),
        ({"temperature": 2.0, "share": 0.8}, 1 / 3),  # 4 and 16 clips
        ({"weights": (1.0, 9.0)}, 0.9),
    ],
)
def test_a_mixture_has_the_shares_that_it_tells(root, small, changes, share):
    pipeline = Pipeline(config(root, small, **changes))
    assert pipeline.shares == pytest.approx((1 - share, share))
    from_small = ids(config(root, small, **changes), 3_000) >= len(FRAMES)
    assert from_small.mean() == pytest.approx(share, abs=0.005)
    # In a fixed pattern: also in every part of the stream.
    assert np.ptp(from_small.reshape(50, 60).mean(1)) < 0.05


def test_a_set_in_a_larger_share_is_repeated_more_often(root, small):
    found = ids(config(root, small, temperature=math.inf), 400)
    _, times = np.unique(found, return_counts=True)
    assert set(times[:20]) == {10}  # 200 rows of each set
    assert set(times[20:]) == {40}


def test_a_temperature_of_1_is_the_order_of_before(root, small):
    """The numbers of clips as weights, as whole numbers."""
    pipeline = Pipeline(config(root, small))
    parents = [grain.MapDataset.source(ClipOrder([4] * 5, 0, hash_of(3, 0) % 2**32))]
    parents.append(grain.MapDataset.source(ClipOrder([4, 1], 20, hash_of(3, 1) % 2**32)))
    expected = grain.MapDataset.mix(parents, [20, 5])
    order = pipeline.order()
    assert [order[i] for i in range(200)] == [expected[i] for i in range(200)]


@pytest.mark.parametrize("changes", [{"weights": (2.0, 3.0)}, {"temperature": 3.0, "share": 0.7}])
@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_a_mixture_resumes_on_any_number_of_hosts(root, small, changes, hosts):
    settings = config(root, small, shuffle_window=2, **changes)
    whole = read(settings, 5)
    parts = [read(settings, 3, first_step=2, rows=host_rows(host, hosts)) for host in range(hosts)]
    assert_same(join(parts), whole[2:])


# --- Broken storage -----------------------------------------------------------------------------------------


def test_training_goes_on_over_broken_shards(broken, caplog):
    with caplog.at_level(logging.WARNING), Pipeline(config(broken)).batches() as stream:
        batches = take(stream, 30)
    examples = np.concatenate([batch["example"] for batch in batches])
    replaced = np.concatenate([batch["replaced"] for batch in batches])
    assert stream.replaced == replaced.sum() > 0
    truncated, flipped = set(range(8, 12)), set(range(4))
    assert truncated < set(stream.broken) <= truncated | flipped
    assert set(stream.broken) & flipped
    assert not set(examples) & truncated
    assert np.concatenate([batch["samples"] for batch in batches]).min() > 1_024
    # Each is logged once, by name, however often it came up.
    logged = [record.getMessage() for record in caplog.records if "unreadable clip" in record.getMessage()]
    assert len(logged) == len(stream.broken)
    for example in stream.broken:
        assert sum(f"clip/{example} (clip {example} of" in line for line in logged) == 1


@pytest.mark.parametrize("hosts", [2, 4])
def test_broken_shards_are_replaced_alike_on_any_number_of_hosts(broken, hosts):
    parts = [read(config(broken), 5, rows=host_rows(host, hosts)) for host in range(hosts)]
    whole = read(config(broken), 5)
    assert any(batch["replaced"].any() for batch in whole)
    assert_same(join(parts), whole)
    assert_same(read(config(broken), 2, first_step=3), whole[3:])


def test_lost_storage_stops_the_run_with_one_line(root, monkeypatch):
    def gone(*_):
        raise OSError("Transport endpoint is not connected")

    with Pipeline(config(root)).batches(5) as stream:
        next(stream)
        monkeypatch.setattr(ClipSet, "read", gone)
        with pytest.raises(
            OSError, match=r"step \d+: no clip can be read any more.*endpoint is not connected"
        ):
            take(stream, 10)


def test_a_temporary_failure_is_reported(root, monkeypatch):
    read_clip, failures = ClipSet.read, iter([OSError("stale file handle")])

    def sometimes(self, *arguments):
        for failure in failures:
            raise failure
        return read_clip(self, *arguments)

    pipeline = Pipeline(config(root, threads=1, prefetch=1))
    monkeypatch.setattr(ClipSet, "read", sometimes)
    with pipeline.batches() as stream:
        (batch,) = take(stream, 1)
        assert batch["replaced"].sum() == stream.replaced == 1
        (line,) = stream.broken.values()
        assert line.startswith("clip/")
        assert line.endswith("failed once, but can be read now")


# --- Worker processes ---------------------------------------------------------------------------------------


def test_workers_read_the_same_batches(root, broken):
    for directory in (root, broken):
        settings = config(directory)
        with_workers = read(dataclasses.replace(settings, workers=2), 5, first_step=2)
        assert_same(with_workers, read(settings, 5, first_step=2))
    assert not multiprocessing.active_children()


def test_too_little_shared_memory_is_found_before_workers_start(root, monkeypatch):
    free = os.statvfs("/dev/shm")
    small = os.statvfs_result((4096, 4096, 0, 100, 100, *free[5:10]))
    monkeypatch.setattr(worker_batches.os, "statvfs", lambda _: small)
    Pipeline(config(root))
    with pytest.raises(ValueError, match=r"workers need up to 11 MB of /dev/shm, with 0 MB free: use fewer"):
        Pipeline(config(root, workers=1))


# --- What cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch 0 is not at least 1"),
        ({"threads": 0}, "threads 0 is not at least 1"),
        ({"prefetch": 0}, "prefetch 0 is not at least 1"),
        ({"workers": -1}, "workers -1 is not at least 0"),
        ({"data": "somewhere"}, "give a tuple of directories"),
        ({"weights": (1.0, 2.0)}, "give a positive one for each of 1 sets"),
        ({"weights": (0.0,)}, "give a positive one for each of 1 sets"),
        ({"frames": 0}, "must both be at least 1"),
        ({"temperature": 0.0}, "temperature 0.0 is not above 0"),
        ({"temperature": math.nan}, "temperature nan is not above 0"),
        ({"temperature": 2.0, "weights": (1.0,)}, r"temperature 2.0 does not go with weights \(1.0,\)"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config("somewhere", **changes)


def test_a_set_smaller_than_a_batch_is_refused(root):
    with pytest.raises(ValueError, match="20 clips are fewer than a batch of 21"):
        Pipeline(config(root, batch=21))
    with pytest.raises(ValueError, match=r"data\.share = 0\.3: 6 clips are fewer than a batch of 8"):
        Pipeline(config(root, share=0.3))
    with pytest.raises(ValueError, match="are not rows of a batch of 8"):
        Pipeline(config(root), rows=[7, 8])
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        Pipeline(config(root + "/nowhere"))
    with pytest.raises(ValueError, match="step -1 is not at least 0"):
        Pipeline(config(root)).batches(-1)
