"""The training batches of a labelled source, from any step on; each batch is a function of (seed, step)."""

import math
from collections.abc import Sequence

import grain
import numpy as np

from data_pipeline.reading.clip_order import ClipOrder
from data_pipeline.reading.host_batches import HostBatches
from data_pipeline.reading.labelled import LabelledSource
from data_pipeline.reading.pipeline import BatchStream, read_ahead
from data_pipeline.reading.requests import ClipRequest, hash_of
from data_pipeline.reading.worker_batches import check_shared_memory, shared_batches


class _Members:
    """Gives a request within a class the example id of the clip. Picklable."""

    def __init__(self, examples: Sequence[int]) -> None:
        self._examples = tuple(map(int, examples))

    def __call__(self, request: ClipRequest) -> ClipRequest:
        return ClipRequest(self._examples[request.example], request.draw)


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
        orders = []
        for kind in np.unique(self._classes).tolist():
            members = np.flatnonzero(self._classes == kind)
            order = ClipOrder([len(members)], 0, hash_of(self._seed, kind) % 2**32)
            orders.append(grain.MapDataset.source(order).map(_Members(members.tolist())))
        return grain.MapDataset.mix(orders, [1.0] * len(orders)) if len(orders) > 1 else orders[0]

    def batches(self, first_step: int = 0) -> BatchStream:
        """Starts to read the batches of `first_step` and of all steps after it; close the stream when done.

        Raises:
            ValueError: a step below 0.
        """
        batches = HostBatches(self.order(), self.source, self._batch, self._rows, self._threads)
        return read_ahead(batches, self.source, first_step, self._workers, self._prefetch)
