"""From when on the time of a run counts.

A command that trains counts from the begin of its process, so that loading the libraries is seen. A later run
of the same process, such as the second fold of a command, and a run in a notebook count from their own begin.
"""

import datetime
import socket
import time
from typing import Any

from hicmae_jax.runs import alive

_counts = False


def count() -> None:
    """Let the next run of this process count from the begin of the process."""
    global _counts
    _counts = True


class ProcessStart:
    """The begin of a run in this process; made once for each run.

    Attributes:
        began: when it began, UTC, in ISO's format; it also names this start.
    """

    def __init__(self) -> None:
        global _counts
        before, _counts = alive.age() if _counts else 0.0, False
        self._begun = time.monotonic() - before
        began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=before)
        self.began = began.isoformat(timespec="milliseconds")

    def seconds(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._begun

    def about(self) -> dict[str, Any]:
        """What tells this start and its process from others, in types of JSON."""
        return {"began": self.began, "host": socket.gethostname(), "identity": alive.identity()}
