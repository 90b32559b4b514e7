"""Writes into the events of a run that a process starts, and what is known of one that was killed."""

import contextlib
from collections.abc import Sequence
from typing import Any

from etils import epath

from hicmae_jax.logs import starts
from hicmae_jax.logs.events import Events
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.supervision import heartbeats


class StartNote:
    """The note of a start; made before the metrics and the heartbeat of the start before are replaced.

    Args:
        directory: local directory of the run's files.
        address: directory of the run, on a disk or in a bucket.

    Raises:
        OSError: the events cannot be read.
    """

    def __init__(self, directory: epath.Path, address: epath.Path) -> None:
        before = starts.find(starts.read_events(directory), _lines(directory), heartbeats.read(address, 0))
        self._killed = starts.interruption(before[-1]) if before else None

    def write(self, events: Events, first_step: int, began: str) -> None:
        """Write it, when nothing refuses the start any more.

        Args:
            events: events of the run.
            first_step: step from which the run goes on.
            began: when the process began.

        Raises:
            OSError: it was not written.
        """
        if self._killed is not None:
            events.write("interrupted", **self._killed)
        events.write("starting", step=first_step, began=began)


def _lines(directory: epath.Path) -> Sequence[dict[str, Any]]:
    """The metrics; none if there is no log, or it is damaged, which is said when it is opened."""
    with contextlib.suppress(OSError, ValueError):
        return read_metrics(directory)
    return []
