"""The list of clips that could not be read, kept while a run trains."""

from collections.abc import Iterator

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
        path: file with one line for each clip that could not be read; lines that it already has stay.
        events: log to which restarts of data workers are written.

    Yields:
        The batches of the stream.

    Raises:
        OSError: the list could not be written, or the stream has failed.
    """
    restarts = 0
    listed = dict.fromkeys(path.read_text().splitlines()) if path.exists() else {}
    for batch in stream:
        found = listed | dict.fromkeys(stream.broken.values())
        if len(found) > len(listed):
            try:
                path.write_text("".join(f"{line}\n" for line in found))
            except OSError as error:
                raise OSError(f"{path}: a clip was not listed: {error.strerror}; {REMEDY}") from error
            listed = found
        if stream.restarts > restarts:
            restarts = stream.restarts
            events.write("data workers started again", step=stream.step, times=restarts)
        yield batch
