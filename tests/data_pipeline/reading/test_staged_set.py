"""Sets in a bucket: batches are those of the same set on a disk, and the cache keeps to its size."""

import asyncio
import os
import stat
import threading
import time
from unittest import mock

import numpy as np
import pytest

from data_pipeline.common import buckets
from data_pipeline.common.buckets import BucketError
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.finetune_sampling import FinetuneSampling
from data_pipeline.format.labelled_set import read_labelled_set
from data_pipeline.format.prepared_set import read_prepared_set
from data_pipeline.reading import replacing_source, staged_set
from data_pipeline.reading.clip_order import ClipOrder
from data_pipeline.reading.fixed_clips import FixedClips, ListedClips
from data_pipeline.reading.labelled import DrawnWindow, LabelledSource, read_sets
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from data_pipeline.reading.shard_cache import ShardCache
from tests.support.bucket_server import Faults, served
from tests.support.bucket_sets import upload
from tests.support.finetune_fixtures import write_labelled_set
from tests.support.set_fixtures import write_set
from tests.support.shard_damage import shard

URL = "gs://ours/prepared/dev"
CLIPS = 16  # in 8 pairs of shards
FAULTY = Faults(unavailable=0.1, cut=0.1, slow=0.1, seconds=0.02, seed=1)
_sleep = asyncio.sleep


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "dev", [64 + c for c in range(CLIPS)], clips_a_shard=2)


@pytest.fixture
def server(root, request):
    with served(getattr(request, "param", None)) as server:
        upload(server, root, URL)
        # The client waits for seconds before it tries again.
        with mock.patch("gcsfs.retry.asyncio.sleep", _pause):
            yield server


async def _pause(seconds: float, *_: object) -> None:
    await _sleep(min(seconds, 0.05))


def config(root, tmp_path, **changes) -> PipelineConfig:
    given = {"data": (str(root),), "batch": 4, "seed": 3, "threads": 2, "cache": str(tmp_path / "cache")}
    return PipelineConfig(**given | changes)


def batches_of(settings: PipelineConfig, steps: int, first: int = 0) -> list[dict[str, np.ndarray]]:
    with Pipeline(settings).batches(first) as stream:
        return [next(stream) for _ in range(steps)]


def assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        assert not batch["replaced"].any()
        for name in other:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def pair_bytes(root) -> int:
    """Bytes of the largest pair of shards."""
    return max(
        sum(shard(root, kind, number).stat().st_size for kind in ("video", "audio"))
        for number in range(CLIPS // 2)
    )


class Measured:
    """Measures the disk that a directory takes, again and again while the context lasts."""

    def __init__(self, directory):
        self._cache = ShardCache(directory)
        self._cache.make()
        self.most = 0
        self._over = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.wait(0.002):
            with self._cache._locked():  # or a file would count that is deleted while others are measured
                files = dict(filter(None, map(self._taken, self._cache.directory.rglob("*"))))
            self.most = max(self.most, sum(files.values()))

    @staticmethod
    def _taken(path):
        """Number of a file, which stays when it is renamed, and its bytes; a mark has a length only."""
        try:
            state = os.stat(path)
        except FileNotFoundError:
            return None
        taken = min(state.st_size, 512 * state.st_blocks)
        return (state.st_ino, taken) if stat.S_ISREG(state.st_mode) else None


# --- The same batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [None, FAULTY], indirect=True, ids=["quiet", "faulty"])
@pytest.mark.parametrize("window", [0, 2])
def test_batches_are_those_of_the_set_on_a_disk(server, root, tmp_path, window):
    staged = batches_of(config(URL, tmp_path, shuffle_window=window), 9)
    assert_same(staged, batches_of(config(root, tmp_path, shuffle_window=window), 9))
    if server.faults.cut:
        assert min(server.met["503"], server.met["cut"]) > 0


def test_workers_read_the_same(server, root, tmp_path):
    assert_same(batches_of(config(URL, tmp_path, workers=2), 6), batches_of(config(root, tmp_path), 6))


def test_a_set_in_a_bucket_is_mixed_with_one_on_a_disk(server, root, tmp_path):
    other = write_set(tmp_path / "other", [70] * 6, clips_a_shard=2)
    for window in (0, 1):
        settings = {"shuffle_window": window, "weights": (3.0, 1.0)}
        staged = config(URL, tmp_path, data=(URL, str(other)), **settings)
        plain = config(root, tmp_path, data=(str(root), str(other)), **settings)
        assert_same(batches_of(staged, 8), batches_of(plain, 8))


def test_a_set_in_a_bucket_is_the_same_set(server, root, tmp_path):
    staged, plain = (Pipeline(config(where, tmp_path)).source.sets[0] for where in (URL, root))
    assert str(staged.root) == URL
    assert staged.about == plain.about


def test_held_out_clips_are_those_of_the_set_on_a_disk(server, root, tmp_path):
    cache = ShardCache(tmp_path / "cache")
    staged = list(FixedClips([URL], ClipSampling(), 4, 6, cache=cache))
    for batch, other in zip(staged, FixedClips([root], ClipSampling(), 4, 6), strict=True):
        for name in other:
            np.testing.assert_array_equal(batch[name], other[name])


def test_labelled_clips_are_those_of_the_set_on_a_disk(server, tmp_path):
    labelled = write_labelled_set(tmp_path / "labelled", 6)
    sampling = FinetuneSampling(frames=4, stride=2)

    def clips(sets):
        source = LabelledSource(sets, [range(6)], DrawnWindow(sampling), sampling)
        (batch,) = ListedClips(source, range(6), 6)
        return source.clips, batch

    staged = read_sets([upload(server, labelled, "gs://ours/labelled")], ShardCache(tmp_path / "cache"))
    (names, batch), (expected, other) = clips(staged), clips(read_sets([labelled]))
    assert names == expected
    for name in other:
        np.testing.assert_array_equal(batch[name], other[name])


def test_a_second_run_asks_for_no_shard(server, root, tmp_path):
    batches_of(config(URL, tmp_path), 1)
    first = server.requests
    batches_of(config(URL, tmp_path), 1)
    assert server.requests - first <= 4  # description and listings


def test_a_set_prepared_again_under_the_same_url_is_fetched_again(server, tmp_path):
    batches_of(config(URL, tmp_path), 1)
    other = write_set(tmp_path / "other", [90] * CLIPS, clips_a_shard=2)
    upload(server, other, URL)
    assert_same(batches_of(config(URL, tmp_path), 2), batches_of(config(other, tmp_path), 2))


@pytest.mark.parametrize("server", [Faults(stale=1000.0)], indirect=True)
def test_shards_that_a_listing_does_not_show_yet_are_found(server, root, tmp_path):
    assert_same(batches_of(config(URL, tmp_path), 2), batches_of(config(root, tmp_path), 2))
    assert server.met["stale"] > 0


# --- The bound ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_the_cache_keeps_to_its_size_while_windows_pass(server, root, tmp_path, workers):
    limit = int(4.2 * pair_bytes(root))
    settings = config(URL, tmp_path, shuffle_window=2, cache_gb=limit / 1e9, workers=workers)
    with Measured(tmp_path / "cache") as measured:
        staged = batches_of(settings, 8)
    assert_same(staged, batches_of(config(root, tmp_path, shuffle_window=2), 8))
    assert limit / 2 < measured.most <= limit


def test_two_runs_share_a_cache_that_is_small(server, root, tmp_path):
    """Two threads with pipelines of their own: each closes what it does not read."""
    limit = 4.2 * pair_bytes(root) / 1e9
    found = {}

    def read(seed):
        settings = config(URL, tmp_path, shuffle_window=2, cache_gb=limit, seed=seed)
        found[seed] = batches_of(settings, 4)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        assert_same(found[seed], batches_of(config(root, tmp_path, shuffle_window=2, seed=seed), 4))


def test_shards_of_the_next_window_are_fetched_ahead(server, root, tmp_path):
    pipeline = Pipeline(config(URL, tmp_path, shuffle_window=2, batch=2))
    (order,) = pipeline._orders()
    coming = order.shards_of(0, 0)
    with pipeline.batches() as stream:
        next(stream)
        end = time.monotonic() + 20
        while not all(
            pipeline.source.sets[0].staged.has(pipeline.source.sets[0].about.shards[number].video)
            for number in coming
        ):
            assert time.monotonic() < end
            time.sleep(0.05)
    assert len(coming) == 4


def test_the_order_tells_the_shards_of_a_window_and_the_next():
    order = ClipOrder([2, 3, 0, 2, 4], seed=5, window=2)
    starts = np.cumsum([0, 2, 3, 0, 2, 4])
    seen = [int(np.searchsorted(starts, order[p].example, side="right")) - 1 for p in range(33)]
    for position in range(22):
        shards = order.shards_of(position, position)
        assert shards[0] in range(5)
        assert seen[position] in shards
        assert 2 not in shards  # has no clip
        after = {seen[p] for p in range(position, position + 3)}
        assert after <= set(shards) | {seen[position]}
    assert set(order.shards_of(0, 11)) == {0, 1, 3, 4}


# --- Refusals -----------------------------------------------------------------------------------------------


def test_a_bucket_without_a_cache_is_refused(server, tmp_path):
    with pytest.raises(ValueError, match=r"dev is in a bucket.*data.cache.*gcsfuse"):
        Pipeline(config(URL, tmp_path, cache=""))
    with pytest.raises(ValueError, match=r"dev is in a bucket.*data.cache"):
        read_sets([URL])


def test_a_size_without_a_cache_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cache_gb 5.0 is the size of no directory: name it in cache"):
        config(URL, tmp_path, cache="", cache_gb=5.0)


@pytest.mark.parametrize(
    ("window", "pairs", "words"),
    [
        (
            0,
            7,
            r"dev: shards of .* must lie in data.cache .*; but|but data.cache_gb is .*data.shuffle_window",
        ),
        (3, 5, r"two windows of 3 pairs: .* but data.cache_gb is .*lower data.shuffle_window"),
    ],
)
def test_a_cache_that_is_too_small_is_refused_before_anything_is_fetched(
    server, root, tmp_path, window, pairs, words
):
    small = pairs * pair_bytes(root) / 1e9
    with pytest.raises(ValueError, match=words):
        Pipeline(config(URL, tmp_path, shuffle_window=window, cache_gb=small))
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [".lock"]


def test_held_out_sets_need_room_besides(server, root, tmp_path):
    cache = ShardCache(tmp_path / "cache", int(12 * pair_bytes(root)))
    FixedClips([URL], ClipSampling(), 4, cache=cache)
    upload(server, root, "gs://ours/test")
    with pytest.raises(ValueError, match=r"gs://ours/test: shards of .* besides .* of other sets"):
        FixedClips(["gs://ours/test"], ClipSampling(), 4, cache=cache)


@pytest.mark.parametrize("url", ["gs://ours/prepared", "gs://ours/nowhere", "gs://nobody/dev"])
def test_a_wrong_url_is_refused(server, tmp_path, url):
    with pytest.raises(FileNotFoundError, match=f"{url} holds no prepared set of this kind: dataset.json"):
        Pipeline(config(url, tmp_path))


def test_a_damaged_description_is_refused_with_its_url(server, tmp_path):
    server.put("ours/prepared/dev/dataset.json", b"{")
    with pytest.raises(ValueError, match=f"^{URL}/dataset.json does not describe a prepared set"):
        Pipeline(config(URL, tmp_path))


def test_a_bucket_that_does_not_answer_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr(staged_set, "Bucket", lambda url: buckets.Bucket(url, patience=0.1))
    server.faults.refused = True
    with pytest.raises(BucketError, match=r"dataset\.json cannot be read"):
        Pipeline(config(URL, tmp_path))


@pytest.mark.parametrize("read", [read_prepared_set, read_labelled_set])
def test_what_reads_from_disks_only_refuses_a_bucket(read):
    with pytest.raises(ValueError, match=r"dev is in a bucket, and this command .*gcsfuse\) or copy the set"):
        read(URL)


# --- What cannot be fetched ---------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 2])
def test_clips_of_a_missing_shard_are_replaced_as_on_a_disk(server, root, tmp_path, window, monkeypatch):
    gone = shard(root, "video", 3).relative_to(root)
    server.remove(f"ours/prepared/dev/{gone}")
    with Pipeline(config(URL, tmp_path, shuffle_window=window)).batches() as stream:
        staged = [next(stream) for _ in range(4)]
        broken = list(stream.broken.values())
    copy = tmp_path / "copy"
    write_set(copy, [64 + c for c in range(CLIPS)], clips_a_shard=2)
    (copy / gone).unlink()
    plain = batches_of(config(copy, tmp_path, shuffle_window=window), 4)
    assert sum(batch["replaced"].sum() for batch in plain) == 2
    for batch, other in zip(staged, plain, strict=True):
        for name in other:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)
    assert len(broken) == 2
    assert all(URL in line for line in broken)


def test_a_shard_that_cannot_be_fetched_is_asked_for_once(server, root, tmp_path, monkeypatch):
    """Each of its clips would wait for ten minutes otherwise."""
    monkeypatch.setattr(replacing_source, "_ATTEMPTS", 2)
    asked = []

    def failing(url):
        bucket = buckets.Bucket(url, patience=0.0)
        fetch = bucket.download

        def download(files):
            asked.extend(name for name in files if "00003-of" in name and "video" in name)
            if asked and "00003-of" in next(iter(files)):
                raise BucketError("no answer")
            fetch(files)

        bucket.download = download
        return bucket

    monkeypatch.setattr(staged_set, "Bucket", failing)
    pipeline = Pipeline(config(URL, tmp_path, shuffle_window=8))
    with pipeline.batches() as stream:
        batches = [next(stream) for _ in range(8)]
    assert sum(batch["replaced"].sum() for batch in batches) == 4
    assert 1 <= len(asked) <= 2  # by the readers, and by what fetches ahead
