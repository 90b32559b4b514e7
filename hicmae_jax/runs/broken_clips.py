"""The list of clips that could not be read, kept while a run trains.

Lines are only appended, so a batch without new broken clips costs nothing, and one with some costs what they
do, however many are listed already.
"""

import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.pipeline import BatchStream
from hicmae_jax.logs.events import Events
from hicmae_jax.logs.words import REMEDY

BROKEN = "broken_clips.txt"


def note_faults(stream: BatchStream, path: epath.Path, events: Events) -> Iterator[HostBatch[np.ndarray]]:
    """Pass batches on, and record the faults that occurred while they were read.

    Args:
        stream: stream of batches.
        path: file with one line for each clip that could not be read; lines that it already has stay, and are
            not written twice.
        events: log to which restarts of data workers are written.

    Yields:
        The batches of the stream.

    Raises:
        OSError: the list could not be read or written, or the stream has failed.
    """
    restarts = seen = 0
    listed = _Listed(path)
    for batch in stream:
        if new := len(stream.broken) - seen:
            # From the end, because the beginning is as long as the list.
            lines = list(itertools.islice(reversed(stream.broken.values()), new))
            listed.add(lines[::-1])
            seen += new
        if stream.restarts > restarts:
            restarts = stream.restarts
            events.write("data workers started again", step=stream.step, times=restarts)
        yield batch


class _Listed:
    """The file, and which lines it has.

    A killed run may have left half a line. It is removed: the resumed run reads that clip again.

    Args:
        path: path of the file, which need not exist.
    """

    def __init__(self, path: epath.Path) -> None:
        self._path = path
        self._lines: set[bytes] = set()
        if path.exists():
            *whole, rest = path.read_bytes().split(b"\n")
            self._lines.update(whole)
            if rest:
                os.truncate(path, sum(len(line) + 1 for line in whole))

    def add(self, lines: Sequence[str]) -> None:
        """Append those lines that the file does not have yet."""
        found = dict.fromkeys(line.encode("utf-8", "backslashreplace") for line in lines)
        new = [line for line in found if line not in self._lines]
        if not new:
            return
        try:
            with open(self._path, "ab") as file:
                file.writelines(line + b"\n" for line in new)
        except OSError as error:
            raise OSError(f"{self._path}: a clip was not listed: {error.strerror}; {REMEDY}") from error
        self._lines.update(new)
