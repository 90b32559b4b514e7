"""Worker processes that ignore Ctrl-C and SIGTERM and never outlive the process that started them."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.context import SpawnContext
from typing import Any

# Forked processes would inherit locks that threads of libraries (JAX, Grain) hold, but not the threads.
CONTEXT: SpawnContext = multiprocessing.get_context("spawn")


def worker_pool(
    workers: int, start: Callable[..., None] | None = None, *arguments: object
) -> ProcessPoolExecutor:
    """Makes a pool of processes that end when this one does, even by SIGKILL.

    Args:
        workers: number of processes.
        start: is called first in each, with `arguments`.
        arguments: of `start`; locks and counters must be of `CONTEXT`.
    """
    return ProcessPoolExecutor(workers, CONTEXT, _start, (start, arguments))


def submit_all(pool: ProcessPoolExecutor, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Future]:
    """Hand every item to a new pool that has no more workers than there are items; its processes start here.

    A terminal sends Ctrl-C, and a cluster SIGTERM, to all processes at once. Workers start with both blocked,
    so that none stops while it imports; the caller decides what becomes of its work. This process handles a
    signal only after all workers have started, because one that has half started would print a traceback or
    hang.
    """
    with _signals_deferred():
        futures = [pool.submit(work, item) for item in items]
        # Each call above may start a process after it has told the pool's thread which processes to watch.
        # This call makes the thread watch the last process too.
        pool.submit(int)
        return futures


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Defer signals to this process to the end, and block them in processes that start meanwhile."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    came, kinds = [], {signal.SIGINT, signal.SIGTERM}
    # Processes inherit this thread's mask, but another thread may still take the signal.
    handlers = {kind: signal.signal(kind, lambda kind, _: came.append(kind)) for kind in kinds}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
        if came:
            signal.raise_signal(came[0])


def _start(start: Callable[..., None] | None, arguments: tuple[object, ...]) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    threading.Thread(target=_die_when_told, daemon=True).start()
    if start:
        start(*arguments)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "not a worker process"
    parent.join()
    os._exit(1)


def _die_when_told() -> None:
    """End at a SIGTERM from the parent: so a pool that has lost a worker ends the others."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(1)
