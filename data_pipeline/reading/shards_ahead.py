"""Fetches the shards of the coming windows while batches of the present ones are read.

Clips are shuffled over windows of shards (`clip_order`). The cache needs room for two windows: the one that
is read, and the next one.
"""

import contextlib
import copy
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from data_pipeline.reading.clip_order import ClipOrder
from data_pipeline.reading.staged_set import FETCHERS, StagedSet

_SECONDS_TO_LOOK = 1.0
_IDLE_SECONDS = 2.0
"""After which this process closes a shard: data workers read, and it has read only a clip now and then."""


class WindowedSet(NamedTuple):
    """A set in a bucket that is read window by window.

    Attributes:
        staged: the set.
        pairs: the files of each shard of its order.
        order: of its clips.
        share: of the batches.
    """

    staged: StagedSet
    pairs: Sequence[Sequence[str]]
    order: ClipOrder
    share: float

    def wanted(self, first: float, last: float) -> list[str]:
        """The files of the windows of some positions in the mixture and of the window after, in order."""
        shards = self.order.shards_of(int(first * self.share), int(last * self.share))
        return [file for shard in shards for file in self.pairs[shard] if file in self.staged.sizes]


class ShardsAhead:
    """Fetches shards in threads of its own, from a step on, until it is closed.

    What cannot be fetched is left to whoever reads it, who reports it.

    Args:
        sets: the sets, all in one cache.
        batch: clips in a batch, over all hosts.
        batches_read_ahead: batches that are read at a time or wait.
        step: the first one.
    """

    def __init__(self, sets: Sequence[WindowedSet], batch: int, batches_read_ahead: int, step: int) -> None:
        # Its own record of what has failed: readers ask once more, and report it.
        self._sets = [one._replace(staged=copy.copy(one.staged)) for one in sets]
        self._patient = [one.staged for one in (*sets, *self._sets)]
        for staged in self._patient:
            staged.be_patient()
        self._batch, self._ahead, self._step = batch, batches_read_ahead, step
        self._cache = sets[0].staged.cache
        self._fetching: set[str] = set()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(FETCHERS, "shard-fetcher")
        self._thread = threading.Thread(target=self._run, name="shards-ahead", daemon=True)
        self._thread.start()

    def reached(self, step: int) -> None:
        """Tell the step of the next batch."""
        self._step = step

    def close(self) -> None:
        """Stop. No request is tried again, not even of a reader: the process could not end meanwhile."""
        self._over.set()
        for staged in self._patient:
            staged.be_patient(0.0)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._look()
            self._cache.release(_IDLE_SECONDS)
            if self._over.wait(_SECONDS_TO_LOOK):
                return

    def _look(self) -> None:
        """Ask for the files that are wanted now and are not here."""
        first, last = self._step * self._batch, (self._step + self._ahead) * self._batch
        wanted = [(one.staged, file) for one in self._sets for file in one.wanted(first, last)]
        spare = frozenset(staged.cached_name(file) for staged, file in wanted)
        for staged, file in wanted:
            name = staged.cached_name(file)
            if name not in self._fetching and not staged.has(file):
                self._fetching.add(name)
                with contextlib.suppress(RuntimeError):  # closed meanwhile
                    self._pool.submit(self._fetch, staged, file, spare)

    def _fetch(self, staged: StagedSet, file: str, spare: frozenset[str]) -> None:
        with contextlib.suppress(OSError):
            staged.hold(file, 0.0, spare).close()
        self._fetching.discard(staged.cached_name(file))
