"""Ends a process that hangs: writes the stacks of all threads and one line, and exits with code 70.

Its thread does nothing else, because reports and heartbeats go to a disk, which may be what hangs. For the
same reason it writes the stacks in threads that it waits for only a limited time. If a library blocks the
interpreter, no thread of Python can act; then faulthandler's timer, which is written in C, ends the process
some minutes later with exit code 1.
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
STACKS_SECONDS = 30.0
"""Seconds that writing the stacks may take, to the file and to stderr each."""

_STDERR = 2  # not sys.stderr, which may have been replaced by something without a file


class Deadline:
    """Ends the process when its main thread has given no sign of life for too long.

    Time in which this object's own thread did not run does not count, so a suspended process is not ended.

    Args:
        seconds: seconds without a sign of life after which the process ends.
        heard: returns a number that changes with every sign of life.
        describe: returns what the main thread does; must not block.
        stacks: file to append the stacks of all threads to.
        clock: returns seconds that never go back.
        interval: seconds from one look to the next.
        send: sends the file to where the run lies, if that is not on a disk.
        sent: the place of the file there.
    """

    def __init__(
        self,
        seconds: float,
        heard: Callable[[], float],
        describe: Callable[[], str],
        stacks: Path,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 1.0,
        send: Callable[[], None] | None = None,
        sent: str = "",
    ) -> None:
        self._send, self._sent = send, sent
        self._seconds = seconds
        self._heard = heard
        self._describe = describe
        self._stacks = stacks
        self._clock = clock
        self._interval = interval
        self._stacks_seconds = min(STACKS_SECONDS, seconds)
        self._last_heard, self._looked = heard(), clock()
        self._idle = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deadline", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        self._thread.join()

    def is_over(self) -> bool:
        """Whether the time is up; called once in each interval."""
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
                # Not at every sign of life, because each restart of the timer starts a thread.
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
        """Restart the timer in C; it ends later than `_end` would act."""
        steps = 2 if self._send is None else 3
        later = 1.25 * self._seconds + steps * self._stacks_seconds + 2 * self._interval
        with contextlib.suppress(OSError, RuntimeError):  # stderr is closed, or no thread can start
            faulthandler.dump_traceback_later(later, exit=True, file=_STDERR)

    def _end(self) -> None:
        try:
            what = self._describe()
            wrote = _within(self._stacks_seconds, lambda: self._write_stacks(what))
            where = f"in {self._stacks}" if wrote else f"above, as {self._stacks} cannot be written"
            if wrote and self._send and _within(self._stacks_seconds, self._send):
                where = f"in {self._sent}"
            line = f"{what}: ended; run the same command to go on. The stacks of all threads are {where}"
            _within(self._stacks_seconds, lambda: _tell(line))
        finally:
            os._exit(EXIT_CODE)

    def _write_stacks(self, what: str) -> None:
        with self._stacks.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC: {what}\n")
            file.flush()
            faulthandler.dump_traceback(file)
            file.write("\n")


def _tell(line: str) -> None:
    faulthandler.dump_traceback(_STDERR)
    os.write(_STDERR, f"{line}\n".encode())
    sys.stdout.flush()  # `os._exit` does not flush


def _within(seconds: float, do: Callable[[], None]) -> bool:
    """Call a function in another thread; return whether it returned in time and without an OSError."""
    done = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            do()
            done.append(True)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(done)
