"""Reads the windows of many files at once, in threads, and never holds more than a few in memory.

Decoding, scaling and the detection of faces release the interpreter's lock, so threads suffice.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

from data_pipeline.media.inputs import Input
from data_pipeline.media.reasons import Notes, UnusableClipError
from data_pipeline.media.windows import Window

Read = Callable[[Input, Notes], Iterator[Window]]
"""Reads a file's windows; what it has read past is added to the notes."""


class Item(NamedTuple):
    """What a thread has to say of a file.

    Attributes:
        number: of the file.
        window: the next one; None if there are no more.
        notes: after the last window, what was read past.
        error: why the file cannot be used; None if it can.
    """

    number: int
    window: Window | None
    notes: tuple[str, ...] = ()
    error: str | None = None


def read_side_by_side(
    inputs: Sequence[Input], read: Read, threads: int, held: int
) -> Generator[Item, None, None]:
    """Yields the windows of all files as they come; those of one file are in order.

    Args:
        inputs: the files.
        read: reads one.
        threads: files that are read at the same time.
        held: windows that wait at most.

    Raises:
        Exception: a mistake of the program in a thread; a file that cannot be used raises nothing.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(inputs)):
        waiting.put(number)
    ready: queue.Queue[Item | Exception] = queue.Queue(held)
    stopped = threading.Event()

    def put(item: Item | Exception) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.2)
            except queue.Full:
                continue

    def work() -> None:
        while not stopped.is_set():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                for item in _items(number, inputs[number], read):
                    put(item)
            except Exception as error:  # raised again by the reader of this queue
                put(error)

    for _ in range(min(threads, len(inputs))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in inputs:
            while True:
                item = ready.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.window is None:
                    break
    finally:
        stopped.set()


def _items(number: int, given: Input, read: Read) -> Iterator[Item]:
    notes = Notes()
    try:
        for window in read(given, notes):
            yield Item(number, window)
    except UnusableClipError as error:
        yield Item(number, None, error=f"{error.reason}: {error.detail}")
    except OSError as error:
        yield Item(number, None, error=f"cannot be read: {error.strerror or error}")
    else:
        yield Item(number, None, tuple(notes.lines()))
