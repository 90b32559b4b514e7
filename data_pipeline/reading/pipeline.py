"""The batches of training, from any step on, with any number of hosts, worker processes and threads.

A batch is a function of (seed, step), so only the step needs to be saved. A restarted run, also on
another number of hosts, continues with the batches that it would have read without the restart. Each host
reads the rows of the global batch that its devices hold (see `device_feed`).

`threads` threads read clips straight into the arrays of a batch. They belong to this process (`workers=0`),
or to each of `workers` processes; then every process reads whole batches in turn.

Memory: a process that reads holds `prefetch` batches that are being read or wait, and one that it has handed
over. Batches of worker processes also take shared memory (see `worker_batches`). A clip takes
frames · H · W · 3 + 2 · samples bytes: 1.31 MB for 16 frames of 160 × 160.
"""

import dataclasses
import math
from collections.abc import Sequence

import grain
import numpy as np
from absl import logging

from data_pipeline.common.cores import usable_cores
from data_pipeline.common.setting import check_limits, setting
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.cache_settings import CACHE, CACHE_GB, cache_of, check_cache
from data_pipeline.reading.clip_order import ClipOrder
from data_pipeline.reading.clip_share import clips_of_share
from data_pipeline.reading.host_batches import HostBatches, ReadBatch
from data_pipeline.reading.mixing import shares_of, weights_of
from data_pipeline.reading.replacing_source import ReplacingSource
from data_pipeline.reading.requests import NO_CLIP, ClipRequest, hash_of
from data_pipeline.reading.shards_ahead import ShardsAhead, WindowedSet
from data_pipeline.reading.sources import ClipSource
from data_pipeline.reading.worker_batches import WorkerBatches, check_shared_memory, shared_batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The prepared sets, and how clips are read from them.

    Raises:
        ValueError: a number is too small, or there is not one positive weight for each set, or there are both
            weights and a temperature.
    """

    data: tuple[str, ...] = setting(meaning="directories of prepared sets", name="sets")
    batch: int = setting(meaning="clips in a batch, over all hosts", at_least=1)
    weights: tuple[float, ...] = setting(
        (), "share of each set in the batches, in any unit; empty: in proportion to the sets' clips"
    )
    temperature: float = setting(
        1.0,
        "without weights, a set's share of the batches is in proportion to its clips to the power "
        "1 / temperature: 1 is by clips, 2 by their square root, inf gives all sets the same",
        above=0,
        infinite=True,
    )
    share: float = setting(
        1.0,
        "share of the clips of each set to train on; runs of any seed have the same clips, and a larger "
        "share holds every smaller one",
        above=0,
        at_most=1,
    )
    seed: int = setting(0, "of the order of clips and of the first frames")
    frames: int = setting(16, "frames in a sample")
    stride: int = setting(
        4, "frames of the clip from one frame of a sample to the next; a multiple of the stored stride"
    )
    shuffle_window: int = setting(
        0,
        "shards to shuffle clips over, for storage that is slow at random reads; 0: the whole set",
        at_least=0,
    )
    threads: int = setting(usable_cores(), "clips that each process reads at a time", at_least=1)
    workers: int = setting(0, "processes that read; 0 reads in the training process", at_least=0)
    prefetch: int = setting(2, "batches that each process reads ahead", at_least=1)
    cache: str = setting("", CACHE)
    cache_gb: float = setting(0.0, CACHE_GB, at_least=0)

    def __post_init__(self) -> None:
        check_limits(self)
        check_cache(self.cache, self.cache_gb)
        if isinstance(self.data, str):  # type: ignore[unreachable]  # a caller without a type checker
            raise ValueError(f"data {self.data!r}: give a tuple of directories, even of one")
        if self.weights and (len(self.weights) != len(self.data) or min(self.weights) <= 0):
            raise ValueError(f"weights {self.weights}: give a positive one for each of {len(self.data)} sets")
        if self.weights and self.temperature != 1:
            raise ValueError(
                f"temperature {self.temperature} does not go with weights {self.weights}, which say the "
                "shares of the sets: leave one of them out"
            )
        ClipSampling(self.frames, self.stride)


class Pipeline:
    """Prepared sets, checked and ready to be read from any step.

    Attributes:
        config: as given.
        source: the sets.
        rows: the rows of each batch that this host reads.
        batch_bytes: size of these rows in bytes.
        clips_of_sets: number of clips of each set that are trained on.
        shares: share of each set in the batches.
        cache: where shards of sets in buckets are put; None if the settings name no directory.

    Args:
        config: the prepared sets, and how clips are read from them.
        rows: rows of the global batch to read here, from `sharding_rows`; None for all.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: a set cannot be read or does not fit the others, or there are fewer clips than a batch
            has, or too little shared memory for the workers or room for shards.
        OSError: a bucket cannot be read.
    """

    def __init__(self, config: PipelineConfig, rows: Sequence[int] | None = None) -> None:
        self.config = config
        self.rows = tuple(range(config.batch) if rows is None else rows)
        if not self.rows or not 0 <= min(self.rows) <= max(self.rows) < config.batch:
            raise ValueError(f"rows {self.rows[:8]}… are not rows of a batch of {config.batch}")
        self.cache = cache_of(config.cache, config.cache_gb)
        sampling = ClipSampling(config.frames, config.stride)
        self.source = ClipSource(config.data, sampling, self.cache, config.shuffle_window)
        if self.cache is not None:
            self.cache.release()  # of a clip that the source has read; data workers need the room
        counts = [clips_of_share(len(clips), config.share) for clips in self.source.sets]
        self.clips_of_sets = tuple(counts)
        self._weights = config.weights or weights_of(counts, config.temperature)
        self.shares = tuple(shares_of(self._weights))
        if self.clips < config.batch:
            sets = ", ".join(config.data) + (f": data.share = {config.share}" if config.share < 1 else "")
            raise ValueError(f"{sets}: {self.clips} clips are fewer than a batch of {config.batch}")
        clip_bytes = config.frames * math.prod(self.source.frame_shape) + 2 * self.source.audio_samples
        self.batch_bytes = len(self.rows) * clip_bytes
        if config.workers:
            check_shared_memory(shared_batches(config.workers) * self.batch_bytes)

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in one pass over the clips of all sets."""
        return self.clips // self.config.batch

    @property
    def clips(self) -> int:
        """Number of clips of all sets that are trained on."""
        return sum(self.clips_of_sets)

    def order(self) -> grain.MapDataset[ClipRequest]:
        """Returns the endless order of clips over all sets: position → `ClipRequest`."""
        orders = [grain.MapDataset.source(order) for order in self._orders()]
        if len(orders) == 1:
            return orders[0]
        return grain.MapDataset.mix(orders, self._weights)

    def _orders(self) -> list[ClipOrder]:
        """The order of the clips of each set."""
        config, orders = self.config, []
        for number, clips in enumerate(self.source.sets):
            lengths = [shard.n_clips for shard in clips.about.shards]
            seed = hash_of(config.seed, number) % 2**32
            first = self.source.first_example(number)
            orders.append(ClipOrder(lengths, first, seed, config.shuffle_window, config.share))
        return orders

    def _shards_ahead(self, first_step: int) -> ShardsAhead | None:
        """Starts to fetch shards; None if all are on disks already."""
        config = self.config
        sets = [
            WindowedSet(clips.staged, [(s.video, s.audio) for s in clips.about.shards], order, share)
            for clips, order, share in zip(self.source.sets, self._orders(), self.shares)
            if clips.staged is not None
        ]
        if not sets or not config.shuffle_window:
            return None
        return ShardsAhead(sets, config.batch, (config.prefetch + 2) * max(config.workers, 1), first_step)

    def batches(self, first_step: int = 0) -> "BatchStream":
        """Starts to read the batches of `first_step` and of all steps after it; close the stream when done.

        Raises:
            ValueError: a step below 0.
        """
        config = self.config
        batches = HostBatches(self.order(), self.source, config.batch, self.rows, config.threads)
        stream = read_ahead(batches, self.source, first_step, config.workers, config.prefetch)
        stream.shards_ahead = self._shards_ahead(first_step)
        return stream


def read_ahead(
    batches: HostBatches, source: ReplacingSource, first_step: int, workers: int, prefetch: int
) -> "BatchStream":
    """Starts to read batches before they are needed; close the stream when done.

    Args:
        batches: the rows of this host.
        source: where they are read.
        first_step: step of the first batch.
        workers: processes that read; 0 reads in threads of this process.
        prefetch: batches that each process reads ahead.

    Raises:
        ValueError: a step below 0.
    """
    if first_step < 0:
        raise ValueError(f"step {first_step} is not at least 0")
    # Grain counts elements, and here an element is a batch: its default of 500 would not fit in memory.
    ahead = grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)

    def read_from(step: int) -> grain.IterDataset:
        return grain.MapDataset.source(batches)[step:].to_iter_dataset(ahead)

    if workers:
        return BatchStream(WorkerBatches(read_from, workers, first_step), source, first_step)
    return BatchStream(iter(read_from(first_step)), source, first_step)


class BatchStream:
    """Iterator over a host's batches that counts the replaced clips and reports the broken ones.

    Attributes:
        step: step of the next batch.
        replaced: number of rows so far that held a replacement.
        broken: example id → one line (name and reason) for each unreadable clip found so far. Each is logged
            once, as a warning.
        shards_ahead: fetches the coming shards of sets in buckets, if they are read in windows.

    Raises:
        OSError: on iteration: no clip at all can be read any more, because the storage is gone.
        RuntimeError: on iteration: worker processes died several times in a row.
    """

    def __init__(
        self, batches: grain.DatasetIterator | WorkerBatches, source: ReplacingSource, first_step: int
    ) -> None:
        self._batches = batches
        self._source = source
        self.step = first_step
        self.replaced = 0
        self.broken: dict[int, str] = {}
        self.shards_ahead: ShardsAhead | None = None

    def __iter__(self) -> "BatchStream":
        return self

    def __next__(self) -> HostBatch[np.ndarray]:
        read: ReadBatch = next(self._batches)
        replaced = read["example"] != read["wanted"]
        for row in np.flatnonzero(replaced):
            self._report_broken(ClipRequest(int(read["wanted"][row]), float(read["draw"][row])))
        if (read["example"] == NO_CLIP).any():
            raise OSError(
                f"step {read['step']}: no clip can be read any more, last {list(self.broken.values())[-1:]}"
            )
        self.replaced += int(replaced.sum())
        self.step += 1
        if self.shards_ahead is not None:
            self.shards_ahead.reached(self.step)
        return {
            "frames": read["frames"],
            "audio": read["audio"],
            "samples": read["samples"],
            "example": read["example"],
            "replaced": replaced,
        }

    @property
    def restarts(self) -> int:
        """How often the worker processes have been started again."""
        return self._batches.restarts if isinstance(self._batches, WorkerBatches) else 0

    def _report_broken(self, request: ClipRequest) -> None:
        """Logs why a request was served by a replacement, once for each broken clip."""
        if request.example in self.broken:
            return
        found = self._source.diagnose(request)
        if request.example not in found:
            found[request.example] = f"{self._source.name(request.example)}: failed once, but can be read now"
        for example, line in found.items():
            if example not in self.broken:
                self.broken[example] = line
                logging.warning("Replacing an unreadable clip: %s", line)

    def close(self) -> None:
        """Stops the threads or worker processes and frees what they hold."""
        if self.shards_ahead is not None:
            self.shards_ahead.close()
        self._batches.close()

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
