"""The account of a run's time: how many seconds its main thread has spent on what, since a start.

The kinds add up to the time since the process began:

==============  ============================================================================================
`starting`      from the begin of the process to the end of the first step's compilation
`training`      computing steps, and what is not of another kind
`input`         waiting for a batch
`saving`        saving, as far as the main thread has to wait for it
`evaluating`    evaluations, with their compilation
==============  ============================================================================================

A line of the metrics has the account as `time/spent/…`; the events `stopped` and `finished` and the
heartbeats have it as `spent`.
"""

from collections.abc import Callable, Mapping
from typing import Any

KINDS = ("starting", "training", "input", "saving", "evaluating")
STARTING, TRAINING, INPUT, SAVING, EVALUATING = KINDS
PREFIX = "time/spent/"

Account = Mapping[str, float]


class Ledger:
    """Keeps the account. One thread changes it, and others may read it.

    Args:
        clock: returns seconds that never go back.
        before: seconds since the process began.
    """

    def __init__(self, clock: Callable[[], float], before: float = 0.0) -> None:
        self._clock = clock
        # Replaced as a whole, so that another thread never sees half a change.
        self._now: tuple[dict[str, float], str, float] = (
            dict.fromkeys(KINDS, 0.0) | {STARTING: before},
            STARTING,
            clock(),
        )

    def change(self, kind: str) -> None:
        """Count the time from now on as of another kind.

        Args:
            kind: one of `KINDS`.
        """
        seconds, before, since = self._now
        if kind != before:
            now = self._clock()
            self._now = (seconds | {before: seconds[before] + now - since}, kind, now)

    def spent(self) -> dict[str, float]:
        """Kind → seconds until now, to a millisecond."""
        seconds, kind, since = self._now
        until_now = seconds | {kind: seconds[kind] + self._clock() - since}
        return {name: round(value, 3) for name, value in until_now.items()}


def in_metrics(spent: Account) -> dict[str, float]:
    """An account as a line of the metrics has it."""
    return {f"{PREFIX}{kind}": seconds for kind, seconds in spent.items()}


def read(found: Any) -> dict[str, float] | None:
    """An account as an event or a heartbeat has it.

    Args:
        found: the value of `spent`; anything.

    Returns:
        None if it is no account.
    """
    try:
        return {kind: float(found[kind]) for kind in KINDS}
    except (TypeError, KeyError, ValueError):
        return None


def of_line(line: Mapping[str, Any]) -> dict[str, float] | None:
    """The account in a line of the metrics; None if it has none."""
    return read({kind: line.get(f"{PREFIX}{kind}") for kind in KINDS})
