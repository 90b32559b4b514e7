"""Batches that worker processes read, whatever becomes of the workers.

A worker can die: the kernel kills one for want of memory, or a library crashes. A batch is a function of its
step alone, so all workers are started again at the step that is missing, and no batch is lost or comes twice.

Grain starts, feeds and ends the workers. What it leaves to us: they must be deaf to Ctrl-C and SIGTERM, which
a terminal or a cluster sends to all processes of a run at once and which only the trainer is to answer; they
must end with their stream, even one that hangs, and not outlive the trainer; and what they had in shared
memory must be freed. For their end they watch the lock on a file, which lasts as long as the stream.

Shared memory: at most four batches a worker (one waiting for its queue, one in it, two in Grain's buffer on
this side), two with the consumer, and what Grain's remover has not got round to, 50 arrays or eight batches.
So /dev/shm has at most 4 · workers + 10 batches, which is checked before the workers start.
"""

import contextlib
import fcntl
import gc
import os
import re
import secrets
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import shared_memory

import grain
from absl import flags, logging
from etils import epath

from data_pipeline.reading.host_batches import ReadBatch

_SHARED_MEMORY = epath.Path("/dev/shm")
_MOST_FAILURES = 3
_LIKELY_CAUSE = {
    "SIGKILL": ", perhaps for want of memory",
    "SIGBUS": f", perhaps for want of {_SHARED_MEMORY}",
}


class WorkerBatches:
    """Iterator over the batches of a step and all after it.

    Attributes:
        restarts: how often workers have been started again.

    Args:
        read_from: step → the batches from it on, each with its `step`; endless and picklable.
        workers: number of processes.
        first_step: to begin with.
    """

    def __init__(self, read_from: Callable[[int], grain.IterDataset], workers: int, first_step: int) -> None:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain asks for its flags, which a notebook never parses
        self._read_from = read_from
        self._workers = workers
        self._step = first_step
        self._running: grain.DatasetIterator | None = None
        self._names = ""
        self._lifeline = ""
        self._lock = -1
        self._failures = 0
        self.restarts = 0

    def __iter__(self) -> "WorkerBatches":
        return self

    def __next__(self) -> ReadBatch:
        """The next step's batch.

        Raises:
            RuntimeError: workers died again and again before one had read it.
        """
        while True:
            try:
                batch = next(self._running) if self._running else self._start()
                if batch["step"] != self._step:
                    # Grain goes on without the batches of a worker that failed.
                    raise RuntimeError(f"the batch of step {batch['step']} came instead")
            except Exception as error:  # of the worker that failed, or Grain's of its end
                self._clear_away(error)
            else:
                self._step += 1
                self._failures = 0
                return batch

    def _clear_away(self, error: Exception) -> None:
        """End what is left of the workers, unless it has happened too often to start again."""
        traceback.clear_frames(error.__traceback__)  # which hold batches
        reason = _reason(error)
        self.close()
        self._failures += 1
        if self._failures > _MOST_FAILURES:
            raise RuntimeError(
                f"step {self._step}: data workers died {self._failures} times in a row ({reason}); use "
                "fewer data.workers, or none, with data.threads instead"
            ) from error
        self.restarts += 1
        logging.warning("Step %d: starting data workers again: %s", self._step, reason)

    def _start(self) -> ReadBatch:
        """Start the workers, and wait for the first batch."""
        self._names = f"hb{secrets.token_hex(3)}"
        self._lock, self._lifeline = tempfile.mkstemp(prefix="hicmae-data-workers-")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1)
        start = _WorkerStart(self._names, self._lifeline)
        batches = self._read_from(self._step).mp_prefetch(options, start)
        self._running = iter(batches)
        first: Future[ReadBatch] = Future()
        threading.Thread(target=_first_batch, args=(self._running, first), daemon=True).start()
        return first.result()

    def close(self) -> None:
        """End the workers and free what they hold."""
        if self._running is None:
            return
        os.close(self._lock)  # first: Grain waits for its workers
        self._running.close()
        self._running = None
        epath.Path(self._lifeline).unlink(missing_ok=True)
        gc.collect()  # the errors of Grain's threads, whose workers are gone, hold batches in cycles
        _free_shared_memory(self._names)


def _first_batch(running: grain.DatasetIterator, first: Future[ReadBatch]) -> None:
    """Has workers born deaf to signals: processes inherit what the thread that starts them blocks.

    In a thread of its own, for where they are blocked they cannot end the wait for that batch either.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        first.set_result(next(running))
    except Exception as error:  # for the thread that waits
        first.set_exception(error)


class _WorkerStart:
    """What a worker does first."""

    def __init__(self, names: str, lifeline: str) -> None:
        self._names = names
        self._lifeline = lifeline

    def __call__(self, index: int, count: int) -> None:
        del index, count
        threading.Thread(target=_end_with, args=(self._lifeline,), daemon=True).start()
        # Not public; but only by their names can a killed worker's arrays be told from others'.
        shared_memory._SHM_NAME_PREFIX = f"/{self._names}"


def _end_with(lifeline: str) -> None:
    """Wait for a lock that is free once the stream is closed, or its process gone; then end."""
    with contextlib.suppress(FileNotFoundError):  # others may be quicker to remove it
        with open(lifeline, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
        os.unlink(lifeline)
    os._exit(1)


def shared_batches(workers: int) -> int:
    """Most batches in shared memory at a time, as the module explains."""
    return 4 * workers + 10 if workers else 0


def check_shared_memory(needed: int) -> None:
    """Workers hand batches over in shared memory; a worker that runs out of it is killed without a word.

    Args:
        needed: bytes.

    Raises:
        ValueError: there are fewer.
    """
    if not _SHARED_MEMORY.exists():
        return
    state = os.statvfs(_SHARED_MEMORY)
    free = state.f_bavail * state.f_frsize
    if needed > free:
        raise ValueError(
            f"workers need up to {needed / 1e6:,.0f} MB of {_SHARED_MEMORY}, with {free / 1e6:,.0f} MB free: "
            "use fewer workers, a smaller batch, threads alone (workers=0), or enlarge it (docker --shm-size)"
        )


def _free_shared_memory(names: str) -> None:
    """Remove what dead workers have left, but not what this process still reads."""
    left = [path.name for path in _SHARED_MEMORY.glob(f"{names}*")]
    in_use = set()
    for descriptor in os.listdir("/proc/self/fd") if left else ():
        with contextlib.suppress(OSError):  # closed meanwhile
            in_use.add(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
    for name in left:
        if name in in_use:
            continue
        with contextlib.suppress(FileNotFoundError):  # Grain's remover was quicker
            try:
                segment = shared_memory.SharedMemory(name)
            except ValueError:  # its maker died before giving it a size
                (_SHARED_MEMORY / name).unlink()
                continue
            segment.close()
            segment.unlink()


def _reason(error: Exception) -> str:
    """Why a worker ended, in a few words."""
    ended = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
    if ended is None:
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    code = int(ended[1])
    if code >= 0:
        return f"one ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"one was killed by {name}{_LIKELY_CAUSE.get(name, '')}"
