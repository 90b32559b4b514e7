"""Held-out clips: each is read once, always the same clips and always the same part of each.

Training draws its samples at random. Evaluation must not, or two scores would differ by their draws. A clip
that cannot be read is left out and reported. It is not replaced: its replacement would count twice.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging
from etils import epath

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.replacing_source import ReplacingSource
from data_pipeline.reading.requests import ClipRequest
from data_pipeline.reading.shard_cache import ShardCache
from data_pipeline.reading.sources import ClipSource

MIDDLE = 0.5
"""`ClipRequest.draw` that takes the sample from the middle of the clip."""


def read_clips(
    source: ReplacingSource, requests: Sequence[ClipRequest], threads: int = 1
) -> tuple[HostBatch[np.ndarray], dict[int, str]]:
    """Reads clips, and leaves out those that cannot be read.

    Args:
        source: prepared sets.
        requests: samples to read.
        threads: number of clips to read at a time.

    Returns:
        The clips that were read, in the order of the requests, without `replaced`; and example id → one line
        (name and reason) for each clip that could not be read.
    """
    count = len(requests)
    frames = np.empty((count, source.sampling.frames, *source.frame_shape), np.uint8)
    audio = np.empty((count, source.audio_samples), np.int16)
    with ThreadPoolExecutor(threads, "clip-reader") as pool:
        read = np.array(list(pool.map(source.read, requests, frames, audio)), np.int32).reshape(count, 2)
    wanted = np.array([request.example for request in requests], np.int32)
    own = read[:, 0] == wanted
    broken = {}
    for row in np.flatnonzero(~own).tolist():
        example = int(wanted[row])
        again = f"{source.name(example)}: failed once, but can be read now"
        broken[example] = source.diagnose(requests[row]).get(example, again)
    kept = slice(None) if own.all() else own  # a slice does not copy
    batch: HostBatch[np.ndarray] = {
        "frames": frames[kept],
        "audio": audio[kept],
        "samples": read[kept, 1],
        "example": wanted[kept],
    }
    return batch, broken


class ListedClips:
    """Batches of chosen clips of a source, the same every time they are read.

    Attributes:
        source: where the clips are read.
        batch: number of clips in a batch: that given, or the number of clips if that is smaller.
        examples: ids of the clips to read, in order.
        broken: example id → one line (name and reason) for each clip left out so far. Each is logged once,
            as a warning.

    Args:
        source: where the clips are read.
        examples: ids of the clips to read, in order, at least one.
        batch: number of clips in a batch; the last batch may have fewer.
        threads: number of clips to read at a time.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(
        self, source: ReplacingSource, examples: Sequence[int], batch: int, threads: int = 1
    ) -> None:
        if min(batch, threads, len(examples)) < 1:
            raise ValueError(
                f"batch {batch}, count {len(examples)} and threads {threads} must all be at least 1"
            )
        self.source = source
        self.examples = tuple(examples)
        self.batch = min(batch, len(examples))
        self.broken: dict[int, str] = {}
        self._threads = threads

    def __iter__(self) -> Iterator[HostBatch[np.ndarray]]:
        """Reads the clips in order, as `read_clips` returns them.

        Raises:
            OSError: none of the clips can be read.
        """
        any_read = False
        for first in range(0, len(self.examples), self.batch):
            requests = [ClipRequest(i, MIDDLE) for i in self.examples[first : first + self.batch]]
            clips, broken = read_clips(self.source, requests, self._threads)
            for example in broken.keys() - self.broken.keys():
                logging.warning("Leaving out an unreadable clip: %s", broken[example])
            self.broken |= broken
            if len(clips["example"]):
                any_read = True
                yield clips
        if not any_read:
            last = list(self.broken.values())[-1]
            raise OSError(f"none of {len(self.examples)} held-out clips can be read, last {last}")


class FixedClips(ListedClips):
    """Held-out clips of prepared sets, evenly spaced over all sets; each is cut from the middle of its clip.

    Attributes:
        source: the sets.

    Args:
        roots: directories of prepared sets.
        sampling: how samples are cut.
        batch: number of clips in a batch; the last batch may have fewer.
        count: number of clips to read; None, or more than there are, reads all.
        threads: number of clips to read at a time.
        cache: where shards of sets in buckets are put; all are fetched first.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: as `ClipSource`, or a number below 1.
    """

    source: ClipSource

    def __init__(
        self,
        roots: Sequence[epath.PathLike],
        sampling: ClipSampling,
        batch: int,
        count: int | None = None,
        threads: int = 1,
        cache: ShardCache | None = None,
    ) -> None:
        if min(batch, threads, 1 if count is None else count) < 1:
            raise ValueError(f"batch {batch}, count {count} and threads {threads} must all be at least 1")
        source = ClipSource(roots, sampling, cache)
        count = min(count or len(source), len(source))
        super().__init__(source, [i * len(source) // count for i in range(count)], batch, threads)
