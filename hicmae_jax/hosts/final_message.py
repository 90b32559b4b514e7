"""The program has the last word: its line is the last on stderr, and its exit code is the process's.

On every host JAX's runtime watches the first one too. When that is gone it writes pages which name nobody, in
threads of its own, and then aborts the process, often in the same millisecond in which we learn of it.
"""

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys

STDERR = 2
"""The file descriptor, in which libraries write too."""


def say(line: str) -> None:
    """Write a line to stderr, after which no one writes there: for the end of a process.

    Args:
        line: the text, without its newline; empty for none, and then nothing changes.
    """
    if not line:
        return
    with contextlib.suppress(OSError):  # nobody reads any more
        sys.stderr.flush()
        with open(os.dup(STDERR), "w", errors="backslashreplace") as ours:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), STDERR)
            print(line, file=ours)


def before_an_abort() -> None:
    """From here on a library that aborts the process does so 6 s later; Python's other threads go on.

    The C library itself handles the signal, for a handler in Python would run in a thread that may never do
    so again. Its `sleep` takes the signal's number, 6, for seconds. What `faulthandler` shows of an abort, it
    shows before that.
    """
    shown = faulthandler.is_enabled()
    faulthandler.disable()
    library = ctypes.CDLL(None)
    library.signal(signal.SIGABRT, library.sleep)
    if shown:  # its handler calls the one that was there before
        faulthandler.enable()
