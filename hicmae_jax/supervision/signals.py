"""Handles SIGTERM and Ctrl-C, with which a cluster or a person stops a run.

While the run starts there is nothing to save, and the first signal ends it. While it trains, the first signal
is only recorded: the loop saves at a step that all processes agree on, and ends. A second signal ends the
process at once.

Python handles a signal between two instructions of the main thread, which may come minutes later if that
thread is in a compiler; and an exception of a handler is lost inside a callback of the garbage collector. So
signals are also written to a pipe that a thread reads, and every signal is recorded for the loop.
"""

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
"""Exit code by signal; 75 is EX_TEMPFAIL of sysexits.h, a failure after which to try again."""
GRACE_SECONDS = 10.0
"""Seconds after which a run that has nothing to save is ended by force."""


class Stopped(KeyboardInterrupt):
    """Ends a run after a signal, with its state saved; `except Exception` does not catch it.

    Attributes:
        signal: the signal.
        step: the step whose state was saved; None if none was.
    """

    def __init__(self, number: int, step: int | None = None) -> None:
        super().__init__(number, step)
        self.signal = signal.Signals(number)
        self.step = step

    def __str__(self) -> str:
        by = "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name
        what = "with nothing new to save" if self.step is None else f"with step {self.step:,} saved"
        return f"stopped by {by} {what}; run the same command again to go on"


class StopSignals:
    """Handles the signals while it is entered, in the main thread.

    Attributes:
        requested: number of the first signal; 0 before one has come.
    """

    def __init__(self) -> None:
        self.requested = 0
        self._deferred = False
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._handlers = {number: signal.signal(number, self._handle) for number in SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._writer)

    def defer(self) -> None:
        """From now on, only record the first signal in `requested`; the loop reads it.

        Raises:
            Stopped: a signal has come before.
        """
        self._deferred = True
        if self.requested:
            raise Stopped(self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = self.requested or number
        if not self._deferred:
            raise Stopped(self.requested)

    def _watch(self) -> None:
        """Read the pipe: act on the first signal if the main thread does not, and on the second at once."""
        came = 0
        while data := os.read(self._reader, 64):
            for number in filter(SIGNALS.__contains__, data):
                came += 1
                self.requested = self.requested or number
                if came > 1:
                    _leave(number, "a second signal: left at once, nothing saved since the last checkpoint")
                elif self._deferred:
                    _say("stopping: the step being made is saved first; a second signal leaves at once")
                else:
                    threading.Thread(target=self._leave_late, args=(number,), daemon=True).start()
        os.close(self._reader)

    def _leave_late(self, number: int) -> None:
        if not self._over.wait(GRACE_SECONDS) and not self._deferred:
            _leave(
                number,
                f"not ended {GRACE_SECONDS:.0f} s after a signal: ended by force; there was nothing to save",
            )


def _say(line: str) -> None:
    # Not through Python's streams, which the main thread may have locked. The reader may be gone.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())


def _leave(number: int, line: str) -> None:
    _say(line)
    os._exit(128 + number)
