"""The cache of shards: its bound, which files go first, one fetch for all, and what crashes leave."""

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from data_pipeline.reading.shard_cache import NoRoomError, ShardCache
from tests.support.processes import HANG

SIZE = 10_000


def write(path: Path) -> None:
    path.write_bytes(os.urandom(SIZE))


def refuse(path: Path) -> None:
    raise AssertionError(f"{path} is fetched again")


def on_disk(cache: ShardCache) -> set[str]:
    return {
        os.path.relpath(os.path.join(top, name), cache.directory)
        for top, _, names in os.walk(cache.directory)
        for name in names
        if name != ".lock"
    }


@pytest.fixture
def cache(tmp_path):
    made = ShardCache(tmp_path / "cache", limit=3 * SIZE)
    made.make()
    return made


def fetch(cache: ShardCache, *names: str) -> None:
    for name in names:
        cache.hold(name, SIZE, write).close()


def test_a_file_is_fetched_once_and_stays(cache):
    fetch(cache, "set/a")
    content = (cache.directory / "set/a").read_bytes()
    with_it = cache.hold("set/a", SIZE, refuse)
    assert with_it.path.read_bytes() == content
    assert on_disk(cache) == {"set/a"}


def test_the_file_opened_least_recently_goes_first(cache):
    fetch(cache, "a", "b", "c", "a", "d")
    assert on_disk(cache) == {"a", "c", "d"}
    fetch(cache, "e")
    assert on_disk(cache) == {"a", "d", "e"}


def test_a_file_in_use_is_not_deleted_and_another_goes_instead(cache):
    held = cache.hold("a", SIZE, write)
    fetch(cache, "b", "c", "d", "e", "f")
    assert on_disk(cache) == {"a", "e", "f"}
    held.close()
    fetch(cache, "g")
    assert on_disk(cache) == {"e", "f", "g"}


def test_files_to_spare_are_not_deleted(cache):
    fetch(cache, "a", "b", "c")
    cache.hold("d", SIZE, write, patience=0, spare={"a", "b"}).close()
    assert on_disk(cache) == {"a", "b", "d"}


def test_without_room_nothing_is_deleted_and_one_line_says_so(cache):
    held = [cache.hold(name, SIZE, write) for name in ("a", "b")]
    fetch(cache, "c")
    with pytest.raises(NoRoomError, match=r"no room for d \(4e-05 GB\).*raise data.cache_gb") as failure:
        cache.hold("d", 4 * SIZE, write, patience=0)
    assert "\n" not in str(failure.value)
    assert on_disk(cache) == {"a", "b", "c"}
    del held


def test_who_needs_room_waits_until_another_closes_a_file(cache):
    held = [cache.hold(name, SIZE, write) for name in ("a", "b", "c")]
    timer = threading.Timer(0.3, held[1].close)
    timer.start()
    fetch(cache, "d")
    assert on_disk(cache) == {"a", "c", "d"}


def test_the_own_idle_files_make_room(cache):
    class Idle:
        def __init__(self):
            self.held = [cache.hold(name, SIZE, write) for name in ("a", "b", "c")]

        def release(self, idle):
            for held in self.held:
                held.close()

    idle = Idle()
    cache.holders.add(idle)
    fetch(cache, "d")
    assert on_disk(cache) == {"b", "c", "d"}


def test_a_failed_fetch_leaves_nothing_and_may_be_tried_again(cache):
    def fail(path):
        path.write_bytes(b"half")
        raise OSError("the bucket is gone")

    with pytest.raises(OSError, match="the bucket is gone"):
        cache.hold("a", SIZE, fail)
    assert on_disk(cache) == set()
    fetch(cache, "a")


def test_a_file_of_another_size_is_refused_or_fetched_again(cache):
    with pytest.raises(OSError, match=r"a has 10,000 bytes, not 5 as listed"):
        cache.hold("a", 5, write)
    fetch(cache, "a")
    os.truncate(cache.directory / "a", 17)  # a crash
    fetch(cache, "a")
    assert (cache.directory / "a").stat().st_size == SIZE


def slowly(path: Path) -> None:
    with path.with_suffix(".fetched").open("a") as calls:
        calls.write("x")
    time.sleep(0.5)
    write(path)


def hold_slowly(directory: str) -> None:
    ShardCache(directory).hold("a", SIZE, slowly).close()


def test_processes_and_threads_that_ask_at_once_fetch_once(tmp_path):
    cache = ShardCache(tmp_path, limit=None)
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=hold_slowly, args=(str(tmp_path),)) for _ in range(2)]
    jobs += [threading.Thread(target=hold_slowly, args=(str(tmp_path),)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(HANG)
    assert [job.exitcode for job in jobs[:2]] == [0, 0]
    assert (tmp_path / "a.fetched").read_text() == "x"
    assert cache.has("a")


def test_all_who_wait_for_a_fetch_that_fails_get_its_error(cache):
    begun = threading.Event()

    def fail(path):
        begun.set()
        time.sleep(0.3)
        raise OSError("the bucket is gone")

    errors = []

    def hold(act):
        try:
            cache.hold("a", SIZE, act)
        except OSError as error:
            errors.append(str(error))

    first = threading.Thread(target=hold, args=(fail,))
    first.start()
    assert begun.wait(HANG)
    hold(refuse)
    first.join()
    assert errors == ["the bucket is gone"] * 2


def fetch_and_die(directory: str) -> None:
    def die(path):
        path.write_bytes(b"half")
        os._exit(9)

    ShardCache(directory).hold("a", 2 * SIZE, die)


def test_what_a_killed_process_leaves_takes_no_room(cache):
    process = multiprocessing.get_context("spawn").Process(target=fetch_and_die, args=(cache.directory,))
    process.start()
    process.join(HANG)
    assert (process.exitcode, on_disk(cache)) == (9, {"a.fetching", "a.partial"})
    fetch(cache, "b", "c", "d")
    assert on_disk(cache) == {"b", "c", "d"}


def test_room_is_kept_for_a_file_that_is_being_fetched(cache):
    begun, go_on = threading.Event(), threading.Event()

    def wait(path):
        begun.set()
        go_on.wait(HANG)
        path.write_bytes(bytes(2 * SIZE))

    first = threading.Thread(target=lambda: cache.hold("a", 2 * SIZE, wait).close())
    first.start()
    assert begun.wait(HANG)
    fetch(cache, "b")
    with pytest.raises(NoRoomError):
        cache.hold("c", 2 * SIZE, write, patience=0)
    go_on.set()
    first.join()
    assert on_disk(cache) == {"a", "b"}


@pytest.mark.parametrize(
    ("needed", "words"),
    [
        ((4 * SIZE,), r"the set: shards of 4e-05 GB must lie in .*, but data.cache_gb is 3e-05 GB: do this"),
        ((2 * SIZE, 2 * SIZE), r"besides 2e-05 GB of other sets, but data.cache_gb is 3e-05 GB: do this"),
    ],
)
def test_sets_that_do_not_fit_are_refused(cache, needed, words):
    for size in needed[:-1]:
        cache.claim(size, "an earlier set", "do this")
    with pytest.raises(ValueError, match=words):
        cache.claim(needed[-1], "the set", "do this")


def test_a_full_disk_is_found_before_anything_is_fetched(tmp_path):
    cache = ShardCache(tmp_path)
    with pytest.raises(ValueError, match=r"its disk has room for .*: take another, or do this"):
        cache.claim(10**18, "the set", "do this")


def test_a_directory_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/cache cannot be used \(Not a directory\): give a directory"):
        ShardCache(tmp_path / "file" / "cache").make()
    with pytest.raises(ValueError, match="gs://b/cache is in a bucket: give a directory on a local disk"):
        ShardCache("gs://b/cache")


def test_while_files_are_counted_none_becomes_whole(cache):
    """Otherwise a count could find neither the mark, which is gone, nor the file, which was not there yet."""
    ready, written = threading.Event(), threading.Event()

    def write_later(path):
        assert ready.wait(HANG)
        write(path)
        written.set()

    thread = threading.Thread(target=lambda: cache.hold("a", SIZE, write_later).close())
    thread.start()
    while not (cache.directory / "a.fetching").exists():
        time.sleep(0.01)
    with cache._locked():
        ready.set()
        assert written.wait(HANG)
        time.sleep(0.1)
        assert set(cache._files()) == {"a.fetching"}
    thread.join()
    assert on_disk(cache) == {"a"}
