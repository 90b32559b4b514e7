"""Makes shards in processes of this machine, and shows progress and the remaining time."""

import concurrent.futures
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any

from tqdm import tqdm

from data_pipeline.common.worker_processes import CONTEXT, submit_all, worker_pool
from data_pipeline.preparation.shard_writer import write_shard

Writer = Callable[[Any, Callable[[], None]], None]
"""Makes the shard of a work item, and calls the function that it is given after every clip."""


class _StoppedError(Exception):
    """Ends a work item, because another one has failed or the user has interrupted."""


def run_local(
    specs: Sequence[Any], n_clips: int, n_done: int, workers: int, write: Writer = write_shard
) -> None:
    """Makes shards in `workers` processes.

    Args:
        specs: work items.
        n_clips: number of clips of the whole set, for the progress bar.
        n_done: number of these clips that are not in `specs` because their shards are finished.
        workers: number of processes.
        write: makes the shard of a work item; a function of a module, so that processes can import it.

    Raises:
        RuntimeError: a process died.
        Exception: the first exception of a work item; the other items end at their next clip.
    """
    if not specs:
        return
    counter, stop = CONTEXT.Value("q", 0), CONTEXT.Event()
    pool = worker_pool(min(workers, len(specs)), _start_worker, counter, stop, write)
    with pool, tqdm(desc="preparing", unit="clip", total=n_clips, initial=n_done, smoothing=0.05) as bar:
        try:
            pending: Collection[Future[None]] = submit_all(pool, _work, specs)
            while pending:
                done, pending = concurrent.futures.wait(pending, 0.5, concurrent.futures.FIRST_COMPLETED)
                bar.update(n_done + counter.value - bar.n)
                for future in done:
                    future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker process died, perhaps because memory ran out: run the same command again with "
                "fewer --workers; finished shards are kept"
            ) from None
        except BaseException:
            stop.set()
            bar.set_description("stopping")  # shown while the workers finish their current clips
            raise
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_counter: Synchronized  # of the finished clips, set in each worker
_stop: Event  # tells the workers to end
_write: Writer


def _start_worker(counter: Synchronized, stop: Event, write: Writer) -> None:
    global _counter, _stop, _write
    _counter, _stop, _write = counter, stop, write


def _work(spec: Any) -> None:
    _write(spec, _count_clip)


def _count_clip() -> None:
    if _stop.is_set():
        raise _StoppedError
    with _counter.get_lock():
        _counter.value += 1
