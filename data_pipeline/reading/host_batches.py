"""A host's rows of the batch of any step, read by a pool of threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.recycled_arrays import RecycledArrays
from data_pipeline.reading.replacing_source import ReplacingSource
from data_pipeline.reading.requests import ClipRequest


class ReadBatch(HostBatch[np.ndarray]):
    """A host's rows of a batch, with what was asked for; without `replaced`, which follows from it.

    Attributes:
        wanted: int32[B], ids of the clips that were asked for; `example` differs where that clip could not be
            read.
        draw: float64[B], `ClipRequest.draw` of each row.
        step: int64, the step that the batch belongs to.
    """

    wanted: np.ndarray
    draw: np.ndarray
    step: np.int64


class HostBatches:
    """Gives this host's rows of the batch of any step.

    Row `r` of step `s` is the clip at position `s * batch + r` of the order, whichever host reads it. So
    batches do not depend on the number of hosts. Picklable: each process starts threads of its own.

    Args:
        order: position → `ClipRequest`, endless.
        source: where to read the clips.
        batch: number of rows of the whole batch, over all hosts.
        rows: the rows to read here, ascending.
        threads: number of clips to read at a time.
    """

    def __init__(
        self,
        order: grain.MapDataset[ClipRequest],
        source: ReplacingSource,
        batch: int,
        rows: Sequence[int],
        threads: int,
    ) -> None:
        self._order = order
        self._source = source
        self._batch = batch
        self._rows = tuple(rows)
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._arrays = RecycledArrays()

    def __len__(self) -> int:
        return len(self._order) // self._batch

    def __getitem__(self, step: int) -> ReadBatch:
        """Reads this host's rows of the batch of a step."""
        requests = [self._order[int(step) * self._batch + row] for row in self._rows]
        source, count = self._source, len(requests)
        # Frames are decoded straight into the batch: stacking single samples would copy every byte again.
        frames = self._arrays.empty((count, source.sampling.frames, *source.frame_shape), np.uint8)
        audio = self._arrays.empty((count, source.audio_samples), np.int16)
        self._pool = self._pool or ThreadPoolExecutor(self._threads, "clip-reader")
        read = np.array(list(self._pool.map(source.read, requests, frames, audio)), np.int32)
        return {
            "frames": frames,
            "audio": audio,
            "samples": read[:, 1],
            "example": read[:, 0],
            "wanted": np.array([request.example for request in requests], np.int32),
            "draw": np.array([request.draw for request in requests]),
            "step": np.int64(step),
        }

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pool": None, "_arrays": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._arrays = RecycledArrays()
