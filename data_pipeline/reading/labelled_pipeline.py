"""The training batches of a labelled source, from any step on; each batch is a function of (seed, step)."""

import math
from collections.abc import Sequence

import grain
import numpy as np

from data_pipeline.reading.clip_order import POSITIONS, ClipOrder
from data_pipeline.reading.host_batches import HostBatches
from data_pipeline.reading.labelled import LabelledSource
from data_pipeline.reading.pipeline import BatchStream, read_ahead
from data_pipeline.reading.requests import ClipRequest, hash_of
from data_pipeline.reading.worker_batches import check_shared_memory, shared_batches


class _BalancedOrder:
    """Gives the clip at any position of an endless stream that has each class equally often. Picklable.

    Of K classes, each run of K positions has one clip of each, in an order of its own: mixing pairs clips by
    their places in a batch, and any two classes must be able to meet.

    Args:
        classes: class of each clip, int[N].
        seed: of all draws.
    """

    def __init__(self, classes: np.ndarray, seed: int) -> None:
        kinds = np.unique(classes).tolist()
        self._seed = seed
        self._members = [np.flatnonzero(classes == kind).tolist() for kind in kinds]
        self._orders = [
            ClipOrder([len(members)], 0, hash_of(seed, kind) % 2**32)
            for kind, members in zip(kinds, self._members)
        ]

    def __len__(self) -> int:
        return POSITIONS

    def __getitem__(self, position: int) -> ClipRequest:
        """Returns the clip at a position, and the number that decides its window."""
        turn, place = divmod(int(position), len(self._orders))
        places = range(len(self._orders))
        kind = sorted(places, key=lambda kind: hash_of(self._seed, turn, kind))[place]
        request = self._orders[kind][turn]
        return ClipRequest(self._members[kind][request.example], request.draw)


class LabelledPipeline:
    """A labelled source, ready to be read from any step.

    Attributes:
        source: where the clips are read.

    Args:
        source: the training clips.
        batch: clips in a batch, over all hosts.
        seed: of the order of clips and of all draws on the host.
        rows: rows of the global batch to read here, from `sharding_rows`.
        classes: class of each clip, int[N], to draw each class equally often; None draws each clip once in
            an epoch.
        threads: clips that each process reads at a time.
        workers: processes that read; 0 reads in the training process.
        prefetch: batches that each process reads ahead.

    Raises:
        ValueError: fewer clips than a batch has, or too little shared memory for the workers.
    """

    def __init__(
        self,
        source: LabelledSource,
        batch: int,
        seed: int,
        rows: Sequence[int],
        classes: np.ndarray | None = None,
        threads: int = 1,
        workers: int = 0,
        prefetch: int = 2,
    ) -> None:
        if len(source) < batch:
            raise ValueError(
                f"{len(source)} training clips are fewer than a batch of {batch}: choose a smaller batch"
            )
        self.source = source
        self._batch, self._seed, self._rows = batch, seed, tuple(rows)
        self._classes = classes
        self._threads, self._workers, self._prefetch = threads, workers, prefetch
        if workers:
            clip_bytes = source.sampling.frames * math.prod(source.frame_shape) + 2 * source.audio_samples
            check_shared_memory(shared_batches(workers) * len(self._rows) * clip_bytes)

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in one pass over the clips."""
        return len(self.source) // self._batch

    def order(self) -> grain.MapDataset[ClipRequest]:
        """Returns the endless order of clips: position → `ClipRequest`."""
        if self._classes is None:
            return grain.MapDataset.source(ClipOrder([len(self.source)], 0, hash_of(self._seed) % 2**32))
        return grain.MapDataset.source(_BalancedOrder(self._classes, self._seed))

    def batches(self, first_step: int = 0) -> BatchStream:
        """Starts to read the batches of `first_step` and of all steps after it; close the stream when done.

        Raises:
            ValueError: a step below 0.
        """
        batches = HostBatches(self.order(), self.source, self._batch, self._rows, self._threads)
        return read_ahead(batches, self.source, first_step, self._workers, self._prefetch)
