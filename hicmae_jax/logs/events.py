"""The events of a run: starts, stops, skipped updates, loss spikes, slow steps.

Each event is a line of JSON in `events.jsonl` in the run's directory. Most events are also printed on stderr.
A resumed run appends to the file; nothing is removed.
"""

import datetime
import json
import os
import sys
from typing import Any

from etils import epath
from tqdm import tqdm

from data_pipeline.common.paths import file_length
from hicmae_jax.logs.words import REMEDY

FILE = "events.jsonl"


class Events:
    """Writes a run's events.

    Args:
        directory: directory of the run, on a local or mounted disk.
        active: true in the first process of a run; in the others, nothing is printed or written.
    """

    def __init__(self, directory: epath.PathLike, active: bool = True) -> None:
        self._file = epath.Path(directory) / FILE
        self._active = active
        # A killed run may have left half a line; the next event then begins on a new line.
        self._before = "\n" if active and _is_torn(self._file) else ""

    def note(self, event: str, line: str, **details: Any) -> None:
        """Print an event and append it to the file. All processes call this; only the first one acts.

        Args:
            event: kind of the event.
            line: text to print.
            details: further values, in types of JSON.
        """
        if self._active:
            say(line)
            self.write(event, line=line, **details)

    def write(self, event: str, **details: Any) -> None:
        """Append an event to the file without printing it.

        Raises:
            OSError: the event was not written, for example because the disk is full.
        """
        if self._active:
            time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            try:
                with self._file.open("a") as file:
                    file.write(self._before + json.dumps({"time": time, "event": event, **details}) + "\n")
            except OSError as error:
                raise OSError(
                    f"{self._file}: {event!r} was not written down: {error.strerror}; {REMEDY}"
                ) from error
            self._before = ""


def _is_torn(path: epath.Path) -> bool:
    if not path.exists() or not file_length(path):
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def say(line: str) -> None:
    """Print a line on stderr, above the progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)
