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
    """Hands every item to a new pool, whose processes start here.

    A terminal sends Ctrl-C to all processes at once. Workers are born deaf to it, so that none breaks off,
    with a traceback, while it is still importing; what becomes of its work is for the caller to decide.
    """
    with _interrupt_deferred():
        return [pool.submit(work, item) for item in items]


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Keeps Ctrl-C from this process until the end, and for ever from processes that start meanwhile."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets it
        yield
        return
    pressed = []
    # The mask, which processes inherit, is this thread's; another thread may take the signal nevertheless.
    handler = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def _start(start: Callable[..., None] | None, arguments: tuple[object, ...]) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if start:
        start(*arguments)


def _die_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
