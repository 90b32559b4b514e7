"""Batches read by worker processes. Workers that die are started again, and no batch is lost.

The kernel may kill a worker that takes too much memory, or a library may crash. Because a batch is a function
of only its step, all workers are then started again at the missing step, and no batch comes twice.

Grain starts, feeds and ends the workers. This module adds four things:

* Workers ignore Ctrl-C and SIGTERM. A terminal or a cluster sends these to all processes of a run at once,
  and only the training process may act on them.
* Workers end with the stream, even a worker that hangs, and never outlive the training process. To notice the
  end, each waits for the lock on a file that the training process holds as long as the stream is open. Grain
  may still be starting a worker when the stream is closed: this worker ends before it reads anything.
* Shared memory that dead workers have left is freed.
* The free shared memory is checked before workers start. They need at most 4 · workers + 10 batches: for
  each worker one that waits for its queue, one in the queue and two in Grain's buffer in this process; two
  that the consumer holds; and those that Grain has not removed yet, 50 arrays or eight batches.
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
from concurrent import futures
from multiprocessing import shared_memory

import grain
from absl import flags, logging
from etils import epath

from data_pipeline.common.errors import typed_line
from data_pipeline.reading.host_batches import ReadBatch

_SHARED_MEMORY = epath.Path("/dev/shm")
_MOST_FAILURES = 3  # in a row, before the run stops
_WAIT_SECONDS = 1
_LIKELY_CAUSE = {
    "SIGKILL": ", perhaps because memory ran out",
    "SIGBUS": f", perhaps because {_SHARED_MEMORY} is full",
}


class WorkerBatches:
    """Iterator over the batches of a step and of all steps after it.

    Attributes:
        restarts: how often the workers have been started again.

    Args:
        read_from: step → the batches from this step on (`ReadBatch`); endless and picklable.
        workers: number of processes.
        first_step: step of the first batch.
    """

    def __init__(self, read_from: Callable[[int], grain.IterDataset], workers: int, first_step: int) -> None:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its flags, which a notebook never parses
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
        """Returns the batch of the next step.

        Raises:
            RuntimeError: workers died several times in a row before one had read it.
        """
        while True:
            try:
                batch = next(self._running) if self._running else self._start()
                if batch["step"] != self._step:
                    # Grain leaves out the batches of a worker that failed.
                    raise RuntimeError(f"the batch of step {batch['step']} came instead")
            except Exception as error:  # raised in the worker, or by Grain because the worker ended
                self._end_failed_workers(error)
            else:
                self._step += 1
                self._failures = 0
                return batch

    def _end_failed_workers(self, error: Exception) -> None:
        """Ends the remaining workers, and raises an error if workers have failed too often in a row."""
        traceback.clear_frames(error.__traceback__)  # frames hold batches
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
        """Starts the workers and waits for the first batch."""
        self._names = f"hb{secrets.token_hex(3)}"
        self._lock, self._lifeline = tempfile.mkstemp(prefix="hicmae-data-workers-")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1)
        start = _WorkerStart(self._names, self._lifeline)
        batches = self._read_from(self._step).mp_prefetch(options, start)
        self._running = iter(batches)
        first: futures.Future[ReadBatch] = futures.Future()
        threading.Thread(target=_first_batch, args=(self._running, first), daemon=True).start()
        while not first.done():
            # Wait in parts: a signal that comes just before the wait does not interrupt it.
            futures.wait([first], timeout=_WAIT_SECONDS)
        return first.result()

    def close(self) -> None:
        """Ends the workers and frees what they hold."""
        if self._lock < 0:
            return
        os.close(self._lock)  # first, because Grain waits until its workers have ended
        self._lock = -1
        if self._running is not None:  # it is when Ctrl-C came while Grain was being started
            self._running.close()
            self._running = None
        epath.Path(self._lifeline).unlink(missing_ok=True)
        gc.collect()  # errors of Grain's threads hold batches in reference cycles
        _free_shared_memory(self._names)


def _first_batch(running: grain.DatasetIterator, first: futures.Future[ReadBatch]) -> None:
    """Starts the workers with SIGINT and SIGTERM blocked, and fetches the first batch.

    A process inherits the signals that are blocked in the thread that starts it. This must be a thread of its
    own, so that the main thread can still be interrupted while it waits for the batch.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        first.set_result(next(running))
    except Exception as error:  # raised again in the thread that waits
        first.set_exception(error)


class _WorkerStart:
    """Each worker calls this first: watches for the end of the stream, and names the shared memory."""

    def __init__(self, names: str, lifeline: str) -> None:
        self._names = names
        self._lifeline = lifeline

    def __call__(self, index: int, count: int) -> None:
        del index, count
        with contextlib.suppress(BlockingIOError):  # the stream is open
            _end_with(self._lifeline, fcntl.LOCK_SH | fcntl.LOCK_NB)
        threading.Thread(target=_end_with, args=(self._lifeline, fcntl.LOCK_SH), daemon=True).start()
        # The prefix is not public, but nothing else tells the arrays of a killed worker from those of others.
        shared_memory._SHM_NAME_PREFIX = f"/{self._names}"  # type: ignore[attr-defined]  # not public


def _end_with(lifeline: str, lock: int) -> None:
    """Exits when the stream is closed or its process has ended, which frees the lock.

    Args:
        lifeline: the file that the training process has locked.
        lock: kind of lock to ask for: `fcntl.LOCK_SH` waits.

    Raises:
        BlockingIOError: the stream is open, and `lock` says not to wait.
    """
    with contextlib.suppress(FileNotFoundError):  # another worker may have removed the file
        with open(lifeline, "rb") as file:
            fcntl.flock(file, lock)
        os.unlink(lifeline)
    os._exit(1)


def shared_batches(workers: int) -> int:
    """Returns the largest number of batches in shared memory at a time, as the module explains."""
    return 4 * workers + 10 if workers else 0


def check_shared_memory(needed: int) -> None:
    """Checks that there is enough shared memory: a worker that runs out of it is killed without a message.

    Args:
        needed: number of bytes that the workers need.

    Raises:
        ValueError: fewer bytes are free.
    """
    if not _SHARED_MEMORY.exists():
        return
    state = os.statvfs(_SHARED_MEMORY)
    free = state.f_bavail * state.f_frsize
    if needed > free:
        raise ValueError(
            f"workers need up to {needed / 1e6:,.0f} MB of {_SHARED_MEMORY}, with {free / 1e6:,.0f} MB free: "
            "use fewer workers, a smaller batch, only threads (workers=0), or enlarge it (docker --shm-size)"
        )


def _free_shared_memory(names: str) -> None:
    """Removes the shared memory of dead workers, except what this process still reads."""
    left = [path.name for path in _SHARED_MEMORY.glob(f"{names}*")]
    in_use = set()
    for descriptor in os.listdir("/proc/self/fd") if left else ():
        with contextlib.suppress(OSError):  # closed in the meantime
            in_use.add(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
    for name in left:
        if name in in_use:
            continue
        with contextlib.suppress(FileNotFoundError):  # Grain has removed it in the meantime
            try:
                segment = shared_memory.SharedMemory(name)
            except ValueError:  # the worker died before it gave the segment a size
                (_SHARED_MEMORY / name).unlink()
                continue
            segment.close()
            segment.unlink()


def _reason(error: Exception) -> str:
    """Says why a worker ended, in a few words."""
    ended = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
    if ended is None:
        return typed_line(error, 300)
    code = int(ended[1])
    if code >= 0:
        return f"one ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"one was killed by {name}{_LIKELY_CAUSE.get(name, '')}"
