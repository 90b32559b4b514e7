"""Writes the final line of a process to stderr, after which no library can write there."""

import contextlib
import os
import sys

STDERR = 2
"""The file descriptor of stderr, which libraries write to directly."""


def write(line: str) -> None:
    """Write a line to stderr at the end of a process, and discard everything written there later.

    Args:
        line: the text, without its newline; empty changes nothing.
    """
    if not line:
        return
    with contextlib.suppress(OSError):  # nobody reads stderr any more
        sys.stderr.flush()
        with open(os.dup(STDERR), "w", encoding=sys.stderr.encoding, errors="backslashreplace") as stderr:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), STDERR)
            print(line, file=stderr)
