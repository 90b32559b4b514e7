"""Output that nobody may read any more: a run must not end because its terminal or its log's reader has.

Ctrl-C, for one, also ends the `tee` of ``launch.pretrain … 2>&1 | tee log``; the state is saved after that.
"""

import contextlib
import sys
from typing import Any, TextIO


class PipeTolerantStream:
    """A stream whose `write` and `flush` never fail; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose the text where that is not possible."""
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
    """Make `sys.stdout` and `sys.stderr` last."""
    sys.stdout, sys.stderr = PipeTolerantStream(sys.stdout), PipeTolerantStream(sys.stderr)
