"""The end of a process that hangs: the stacks of all its threads, one line, exit code 70.

It has a thread that does nothing else: reports and heartbeats go to a disk, which may be just what hangs. The
last words are written by threads that are not waited for long, for the same reason. Should the interpreter
itself be stuck, in a library that holds its lock, no thread of Python's can act: then faulthandler's timer,
written in C, ends the process, some minutes later and with exit code 1, which cannot be chosen.
"""

import contextlib
import datetime
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

EXIT_CODE = 70
STACKS = "stacks-{process}.txt"
LAST_WORDS = 30.0
"""Seconds that writing the stacks may take, to the file and to stderr each."""

_STDERR = 2  # not sys.stderr, which may have been replaced by something without a file


class Deadline:
    """Ends the process when nothing has been heard of its main thread for too long.

    Time in which this object's own thread did not run does not count: a suspended process has not hung.

    Args:
        seconds: to wait for.
        heard: a number that changes with every sign of life.
        describe: what the main thread does, and for whom it may wait; must not block.
        stacks: file to add the stacks of all threads to.
        clock: seconds, never going back.
        interval: seconds from one look to the next.
    """

    def __init__(
        self,
        seconds: float,
        heard: Callable[[], float],
        describe: Callable[[], str],
        stacks: Path,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 1.0,
    ) -> None:
        self._seconds = seconds
        self._heard = heard
        self._describe = describe
        self._stacks = stacks
        self._clock = clock
        self._interval = interval
        self._last_words = min(LAST_WORDS, seconds)
        self._last_heard, self._looked = heard(), clock()
        self._idle = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deadline", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; returns at once."""
        self._stopping.set()
        self._thread.join()

    def is_over(self) -> bool:
        """Whether the time is up; to be asked once in each interval."""
        now, heard = self._clock(), self._heard()
        if heard != self._last_heard:
            self._idle = 0.0
        else:
            self._idle += min(now - self._looked, 2 * self._interval)
        self._last_heard, self._looked = heard, now
        return self._idle >= self._seconds

    def _run(self) -> None:
        armed_for = armed_at = None
        try:
            while True:
                # Each arming starts a thread: not at every sign of life.
                due = armed_at is None or self._looked - armed_at >= self._seconds / 4
                if due and armed_for != self._last_heard:
                    self._arm()
                    armed_for, armed_at = self._last_heard, self._looked
                if self._stopping.wait(self._interval):
                    return
                if self.is_over():
                    self._end()
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        """Start the timer in C afresh, late enough for `_end` to come first."""
        later = 1.25 * self._seconds + 2 * self._last_words + 2 * self._interval
        with contextlib.suppress(OSError, RuntimeError):  # nowhere to write to, or no thread to be had
            faulthandler.dump_traceback_later(later, exit=True, file=_STDERR)

    def _end(self) -> None:
        try:
            what = self._describe()
            wrote = _within(self._last_words, lambda: self._write_stacks(what))
            where = f"in {self._stacks}" if wrote else f"above, as {self._stacks} cannot be written"
            line = f"{what}: ended; run the same command to go on. The stacks of all threads are {where}"
            _within(self._last_words, lambda: _tell(line))
        finally:
            os._exit(EXIT_CODE)

    def _write_stacks(self, what: str) -> None:
        with self._stacks.open("a") as file:
            file.write(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC: {what}\n")
            file.flush()
            faulthandler.dump_traceback(file)
            file.write("\n")


def _tell(line: str) -> None:
    faulthandler.dump_traceback(_STDERR)
    os.write(_STDERR, f"{line}\n".encode())
    sys.stdout.flush()  # which `os._exit` would not


def _within(seconds: float, do: Callable[[], None]) -> bool:
    """Do it in another thread, and say whether that was done in time and without an error."""
    done = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            do()
            done.append(True)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(done)
