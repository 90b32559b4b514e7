"""A set in a bucket: its description is read there, and its shards are fetched into a cache on a local disk.

ArrayRecord's reader opens files of a disk only: it takes a `gs://` path for a file without records (0.8). So
whole shards are fetched. A set has a directory of its own in the cache, named by a hash of its URL and of its
description; a set that is prepared again under the same URL gets another one, and the old shards are deleted
when room is needed.
"""

import hashlib
import os
import posixpath
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from data_pipeline.common.buckets import PATIENCE, THREADS, Bucket
from data_pipeline.common.errors import one_line
from data_pipeline.reading.shard_cache import HeldFile, NoRoomError, ShardCache

FETCHERS = 8
"""Shards that are fetched at a time; the client for `gs://` takes up to 128 MB of memory for each."""
_SECONDS_TO_SHOW = 0.5

About = TypeVar("About")


class StagedSet:
    """The shards of a set in a bucket, and their place in a cache. Picklable.

    A shard that cannot be fetched is not asked for again within `PATIENCE` seconds, for each of its clips
    would wait as long.

    Attributes:
        url: where the set is.
        cache: where its shards are put.
        directory: of the set in the cache.
        sizes: name of each shard that is in the bucket → its number of bytes.

    Args:
        url: see above.
        cache: see above.
        description: content of the files that describe the set.
        shards: names of its shards, relative to the URL.

    Raises:
        OSError: the bucket cannot be read.
    """

    def __init__(self, url: str, cache: ShardCache, description: bytes, shards: Sequence[str]) -> None:
        self.url = url
        self.cache = cache
        self._name = hashlib.sha256(url.encode() + b"\n" + description).hexdigest()[:16]
        self.directory = cache.directory / self._name
        self._begin_process()
        self.sizes = self._sizes(shards)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._of_process}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin_process()

    def hold(self, shard: str, patience: float = PATIENCE, spare: Collection[str] = ()) -> HeldFile:
        """Fetch a shard if it is not in the cache, and keep it there until it is closed.

        Args:
            shard: its name.
            patience: seconds to wait for room.
            spare: shards of this cache not to delete, by `cached_name`.

        Raises:
            FileNotFoundError: it is not in the bucket.
            NoRoomError: the cache has no room for it.
            OSError: it cannot be fetched.
        """
        if shard not in self.sizes:
            raise FileNotFoundError(f"{self.url}/{shard} is missing")
        until, message = self._failed.get(shard, (0.0, ""))
        if time.monotonic() < until:
            raise OSError(message)
        try:
            return self.cache.hold(
                self.cached_name(shard),
                self.sizes[shard],
                lambda path: self._open_bucket().download({shard: path}),
                patience,
                spare,
            )
        except NoRoomError:
            raise
        except OSError as error:
            self._failed[shard] = (time.monotonic() + PATIENCE, one_line(error))
            raise

    def keep(self, shards: Iterable[str], progress: tqdm | None = None) -> None:
        """Fetch shards and keep them in the cache as long as this process has the set.

        A shard that is missing in the bucket is left out; reading its clips reports it.

        Raises:
            OSError: one cannot be fetched.
        """
        pool = ThreadPoolExecutor(FETCHERS, "shard-fetcher")
        try:
            for held in pool.map(self._hold_if_there, shards):
                if held is not None:
                    self._kept.append(held)
                    if progress is not None:
                        progress.update(held.path.stat().st_size)
        except BaseException:
            self.be_patient(0.0)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def cached_name(self, shard: str) -> str:
        """Name of a shard in the cache."""
        return f"{self._name}/{shard}"

    def has(self, shard: str) -> bool:
        """Whether a shard is in the cache."""
        return self.cache.has(self.cached_name(shard))

    def be_patient(self, seconds: float = PATIENCE) -> None:
        """Change for how long a request to the bucket is tried again; 0 ends what is being tried."""
        self._open_bucket().patience = seconds

    # --- Parts ----------------------------------------------------------------------------------------------

    _of_process = ("_bucket", "_kept", "_failed", "_opening")

    def _hold_if_there(self, shard: str) -> HeldFile | None:
        try:
            return self.hold(shard)
        except FileNotFoundError:
            return None

    def _begin_process(self) -> None:
        self._bucket: Bucket | None = None
        self._kept: list[HeldFile] = []
        self._failed: dict[str, tuple[float, str]] = {}
        self._opening = threading.Lock()

    def _open_bucket(self) -> Bucket:
        with self._opening:
            self._bucket = self._bucket or Bucket(self.url)
            return self._bucket

    def _sizes(self, shards: Sequence[str]) -> dict[str, int]:
        """Sizes of the shards; those that a listing does not show yet are asked for one by one."""
        bucket = self._open_bucket()
        directories = {posixpath.dirname(shard) for shard in shards}
        listed = {
            f"{directory}/{name}": size
            for directory in directories
            for name, size in Bucket(f"{self.url}/{directory}").list().items()
        }
        unlisted = [shard for shard in shards if shard not in listed]
        with ThreadPoolExecutor(THREADS) as pool:
            listed |= {
                shard: size
                for shard, size in zip(unlisted, pool.map(bucket.size, unlisted))
                if size is not None
            }
        return {shard: listed[shard] for shard in shards if shard in listed}


def stage(
    root: str | os.PathLike[str],
    cache: ShardCache | None,
    files: Sequence[str],
    read: Callable[[Path], About],
    shards_of: Callable[[About], Sequence[str]],
) -> tuple[StagedSet, About]:
    """Read the description of a set in a bucket, and find its shards.

    Args:
        root: URL of the set.
        cache: where its shards are put.
        files: names of the files that describe it, the most telling first.
        read: reads them from a directory.
        shards_of: names of the shards of the set that they describe.

    Raises:
        FileNotFoundError: there is no such set.
        ValueError: its description is damaged, or there is no cache.
        OSError: the bucket cannot be read.
        ImportError: the package for this kind of bucket is missing.
    """
    url = os.fspath(root).rstrip("/")
    if cache is None:
        raise ValueError(
            f"{url} is in a bucket, and shards are read from a disk: name a local directory for them "
            "(data.cache of a run), or mount the bucket (gcsfuse) or copy the set"
        )
    cache.make()
    bucket, content = Bucket(url), {}
    for name in files:
        try:
            content[name] = bucket.read(name)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{url} holds no prepared set of this kind: {name} is missing; check the URL, or copy the "
                "whole directory of the set"
            ) from None
    with tempfile.TemporaryDirectory(prefix="hicmae-set-") as directory:
        for name, data in content.items():
            Path(directory, name).write_bytes(data)
        try:
            about = read(Path(directory))
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).replace(directory, url)) from error
    return StagedSet(url, cache, b"\n".join(content.values()), shards_of(about)), about


def keep_all(sets: Sequence[StagedSet], remedy: str) -> None:
    """Fetch all shards of sets, with a progress bar, and keep them as long as this process has the sets.

    Args:
        sets: of one cache.
        remedy: what to do where they do not fit, in words.

    Raises:
        ValueError: they do not fit.
        OSError: one cannot be fetched.
    """
    for staged in sets:
        staged.cache.claim(sum(staged.sizes.values()), staged.url, remedy)
    missing = {one: [shard for shard in one.sizes if not one.has(shard)] for one in sets}
    total = sum(one.sizes[shard] for one, shards in missing.items() for shard in shards)
    if total:
        with tqdm(desc="fetching", unit="B", unit_scale=True, total=total, smoothing=0.05) as bar:
            for staged, shards in missing.items():
                staged.keep(shards, bar)
    for staged, shards in missing.items():
        staged.keep(staged.sizes.keys() - shards)
