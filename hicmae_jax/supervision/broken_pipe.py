"""Lets a run go on when stdout or stderr is closed.

Ctrl-C, for example, also ends the `tee` of ``launch.pretrain … 2>&1 | tee log``, and the state is saved after
that.
"""

import contextlib
import sys
from typing import Any, TextIO


class PipeTolerantStream:
    """A stream whose `write` and `flush` never fail; everything else is passed to the stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text if the stream is closed."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def ignore_broken_pipes() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that never fail."""
    sys.stdout, sys.stderr = PipeTolerantStream(sys.stdout), PipeTolerantStream(sys.stderr)
