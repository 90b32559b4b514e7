"""Lets a command go on when nobody reads its output, and print any text in any locale.

Ctrl-C, for example, also ends the `tee` of ``launch.pretrain … 2>&1 | tee log``, and the state is saved after
that. A service may start a command with stdout closed: the first file that the command opens would then get
stdout's descriptor, and libraries that print would write into that file.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from absl import logging

_DESCRIPTORS = (0, 1, 2)


class TolerantStream:
    """A stream whose `write` and `flush` never fail; everything else is passed to the stream.

    Attributes:
        failure: the first error other than that nobody reads, such as a full disk; None if there is none.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop the text if that is impossible."""
        with self._tolerating():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with self._tolerating():
            self._stream.flush()

    @contextlib.contextmanager
    def _tolerating(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What is still buffered, or printed by a library, must not fail either.
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except OSError as error:
            self.failure = self.failure or error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_tolerant() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that never fail, and open what is closed.

    Characters that a stream's encoding does not have are printed as escapes: `×` as a backslash and `xd7`.
    """
    _open_closed()
    sys.stdout, sys.stderr = _tolerant(sys.stdout), _tolerant(sys.stderr)
    logging.get_absl_handler().python_handler.setStream(sys.stderr)  # it keeps the stream that it began with


def end(program: str, code: int) -> int:
    """Flush stdout, and report if what a command printed is lost, unless nobody wanted to read it.

    Args:
        program: name of the command, which the message begins with.
        code: exit code of the command.

    Returns:
        The exit code; 1 instead of 0 if output is lost.
    """
    sys.stdout.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is None:
        return code
    print(f"{program}: stdout was not written: {failure.strerror}", file=sys.stderr)
    with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())  # Python flushes again at its end
    return code or 1


def _tolerant(stream: Any) -> Any:
    if isinstance(stream, TolerantStream):
        return stream
    if stream is None:  # it was closed when Python started
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the process ends
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return TolerantStream(stream)


def _open_closed() -> None:
    """Open the null device for each standard descriptor that is closed, so that no other file gets it."""
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
