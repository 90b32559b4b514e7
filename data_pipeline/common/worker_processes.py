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

# A forked process would inherit the locks that threads of JAX and Grain hold, but not those threads.
CONTEXT: SpawnContext = multiprocessing.get_context("spawn")


def worker_pool(
    workers: int, start: Callable[..., None] | None = None, *arguments: object
) -> ProcessPoolExecutor:
    """Makes a pool of processes that end when this process ends, even by SIGKILL.

    Args:
        workers: number of processes.
        start: function that each process calls first, with `arguments`.
        arguments: arguments of `start`. `CONTEXT` must have made any locks and counters among them.
    """
    return ProcessPoolExecutor(workers, CONTEXT, _start, (start, arguments))


def submit_all(pool: ProcessPoolExecutor, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Future]:
    """Submit every item to a new pool, which must not have more workers than items; its processes start here.

    A terminal sends Ctrl-C, and a cluster sends SIGTERM, to all processes at once. Workers start with both
    signals blocked, so a signal never stops a worker during its imports; the caller decides what to do with
    the work. This process handles a signal only after all workers have started, because a worker that has
    half started would print a traceback or hang.
    """
    with _signals_deferred():
        futures = [pool.submit(work, item) for item in items]
        # Each call of `submit` tells the pool's thread which processes to watch, and may then start one more.
        # This extra call makes the thread watch the last process too.
        pool.submit(int)
        return futures


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Defer signals until the block ends, and block them in processes that start inside the block."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    came, kinds = [], {signal.SIGINT, signal.SIGTERM}
    # The mask is for the new processes, which inherit it. Another thread may still receive a signal, so this
    # process also needs handlers.
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
    """End at a SIGTERM from the parent, which a pool sends to its other workers when it has lost one."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(1)
