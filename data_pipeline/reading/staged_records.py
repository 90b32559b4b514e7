"""The records of a staged set of which only some shards are in the cache at a time."""

import bisect
import contextlib
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from array_record.python.array_record_module import ArrayRecordReader

from data_pipeline.reading.shard_cache import HeldFile
from data_pipeline.reading.staged_set import StagedSet

_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER_BYTES = 32_768


class _OpenShard:
    """A shard that this process has open, so that no process deletes it.

    Attributes:
        reader: of its records; threads share it.
        users: threads that read it at the moment.
        last_read: when a thread began to read it last, by `time.monotonic`.
    """

    def __init__(self, held: HeldFile, records: int) -> None:
        self._held = held
        self.reader = ArrayRecordReader(
            str(held.path), options=_READER_OPTIONS, file_reader_buffer_size=_BUFFER_BYTES
        )
        self.users = 0
        self.last_read = 0.0
        if (found := self.reader.num_records()) != records:
            self.close()
            raise ValueError(f"{held.path} should hold {records} records but holds {found}")

    def close(self) -> None:
        """Close it, and let it be deleted."""
        self.reader.close()
        self._held.close()


class StagedRecords:
    """All records of some shards as one sequence. A shard is fetched when it is first read. Picklable.

    Args:
        staged: the set.
        lengths: name of each shard, in order → number of its records, at least 1.
        most_open: shards that each process keeps open: those that were read last.
    """

    def __init__(self, staged: StagedSet, lengths: Mapping[str, int], most_open: int) -> None:
        self._given = (staged, dict(lengths), most_open)
        self._staged = staged
        self._shards = list(lengths.items())
        self._ends = list(itertools.accumulate(lengths.values()))
        self._most_open = most_open
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = [threading.Lock() for _ in self._shards]
        staged.cache.holders.add(self)

    def __reduce__(self) -> tuple[type["StagedRecords"], tuple[StagedSet, dict[str, int], int]]:
        return StagedRecords, self._given

    def __len__(self) -> int:
        """Returns the number of records."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> bytes:
        """Reads a record.

        Raises:
            Exception: of many kinds, if its shard cannot be fetched or the record cannot be read.
        """
        number = bisect.bisect_right(self._ends, index)
        with self._reading(number) as reader:
            return reader.read([index - self._ends[number] + self._shards[number][1]])[0]

    def release(self, idle: float) -> None:
        """Close the shards that have not been read for `idle` seconds."""
        now = time.monotonic()
        with self._lock:
            chosen = [number for number, shard in self._open.items() if now - shard.last_read >= idle]
            self._close(chosen)

    @contextlib.contextmanager
    def _reading(self, number: int) -> Iterator[ArrayRecordReader]:
        with self._opening[number]:  # one thread fetches the shard, and the others wait
            with self._lock:
                shard = self._use(number)
            if shard is None:
                name, records = self._shards[number]
                opened = _OpenShard(self._staged.hold(name), records)
                with self._lock:
                    self._open[number] = opened
                    shard = self._use(number)
                    self._close(list(self._open)[: -self._most_open])
        assert shard is not None
        try:
            yield shard.reader
        finally:
            with self._lock:
                shard.users -= 1

    def _use(self, number: int) -> _OpenShard | None:
        """Count a reader of an open shard, and put the shard last; None if it is not open."""
        shard = self._open.get(number)
        if shard is not None:
            shard.users += 1
            shard.last_read = time.monotonic()
            self._open.move_to_end(number)
        return shard

    def _close(self, numbers: list[int]) -> None:
        """Close those of some shards that no thread reads."""
        for number in numbers:
            if not self._open[number].users:
                self._open.pop(number).close()
