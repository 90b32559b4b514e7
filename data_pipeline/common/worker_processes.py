"""Processes that work for this one: Ctrl-C is not for them, and they never outlive it."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.context import SpawnContext
from typing import Any

# Forked processes would inherit the locks of threads that libraries have started (JAX, Grain) and do not.
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
    """Hands every item to a new pool of no more workers than items, whose processes start here.

    A terminal sends Ctrl-C, a cluster SIGTERM, to all processes at once. Workers are born deaf to both, so
    that none breaks off while it is still importing; what becomes of its work is for the caller to decide.
    Nor does this process answer before all have started: one half started would leave a traceback, or be
    waited for in vain.
    """
    with _signals_deferred():
        futures = [pool.submit(work, item) for item in items]
        # Each of these may start a process, after it has told the pool's thread to look at those that there
        # are. The death of the last one would go unnoticed while the others have nothing to do.
        pool.submit(int)
        return futures


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Keeps signals from this process until the end, and for ever from processes that start meanwhile."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets them
        yield
        return
    came, kinds = [], {signal.SIGINT, signal.SIGTERM}
    # The mask, which processes inherit, is this thread's; another thread may take the signal nevertheless.
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
    multiprocessing.parent_process().join()
    os._exit(1)


def _die_when_told() -> None:
    """A pool that has lost a worker ends the others by SIGTERM: from this process's parent it counts."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(1)
