"""The starts of a run, from its events, its metrics and its last heartbeat.

A start reaches from the begin of a process to its end. Its account of time (see `ledger`) is in the event
with which it has ended. A killed process writes none: then it is in the last line of the metrics and in the
heartbeat that it has left behind, and the next start copies it into the event `interrupted`.
"""

import dataclasses
import datetime
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from data_pipeline.common import anywhere
from hicmae_jax.logs import events, ledger

STARTING, STARTED, INTERRUPTED, STOPPED, FINISHED = (
    "starting",
    "started",
    "interrupted",
    "stopped",
    "finished",
)
_ENDS = (STOPPED, FINISHED)

Event = Mapping[str, Any]
Line = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Start:
    """A run from one start of its process to the end of it.

    Attributes:
        begun: when the process began; of older runs, when the training began.
        first_step: step from which it went on.
        last_step: last step that it is known to have made; None if nothing tells it.
        spent: account of its time; None if there is none.
        ended: time of its last event `stopped` or `finished`; None without one.
        end: `FINISHED`, the line of `stopped`, or empty.
        identity: what its heartbeat calls `began`; empty for older runs.
        total_steps: steps of the whole run; None if it has not begun to train, or is older.
        events: its events in order.
    """

    begun: datetime.datetime
    first_step: int
    last_step: int | None
    spent: Mapping[str, float] | None
    ended: datetime.datetime | None
    end: str
    identity: str
    total_steps: int | None
    events: Sequence[Event]


def read_events(directory: epath.PathLike) -> list[dict[str, Any]]:
    """Events of a run in order, each with `event` and `time`; lines that are cut off do not count.

    Args:
        directory: directory of the run, on a disk or in a bucket.

    Raises:
        OSError: they cannot be read.
    """
    try:
        text = anywhere.read(epath.Path(directory) / events.FILE).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
            found.append({**event, "time": datetime.datetime.fromisoformat(event["time"])})
        except (ValueError, KeyError, TypeError):
            continue  # a killed process may leave half a line
    return [event for event in found if "event" in event]


def find(
    of_run: Sequence[Event], lines: Sequence[Line] = (), beat: Mapping[str, Any] | None = None
) -> list[Start]:
    """The starts of a run.

    Args:
        of_run: events in order, as from `read_events`.
        lines: the metrics that are left of the run.
        beat: the heartbeat of the first host, if it has left one.

    Returns:
        None, one or more starts, in order.
    """
    begins = [number for number, _ in enumerate(of_run) if _begins(of_run, number)]
    found = []
    for begin, following in itertools.pairwise([*begins, len(of_run)]):
        start = _read(of_run[begin:following])
        found.append(_still_open(start, lines, beat or {}) if following == len(of_run) else start)
    return found


def interruption(start: Start) -> dict[str, Any] | None:
    """What the next start has to note of one that has not said how it ended.

    Args:
        start: the last one of `find`.

    Returns:
        `step` and `spent`, as far as they are known; None if it has said how it ended.
    """
    if start.end:
        return None
    known = {"step": start.last_step, "spent": start.spent}
    return {name: value for name, value in known.items() if value is not None}


def without_type(line: str) -> str:
    """The line of an event without the type of a stop by a signal, which says nothing more."""
    return line.removeprefix("Stopped: ")


def _begins(of_run: Sequence[Event], number: int) -> bool:
    """Whether a start begins with this event. Older ones begin with `started`, without `starting`."""
    event = of_run[number]["event"]
    if event != STARTED:
        return bool(event == STARTING)
    before = [other["event"] for other in of_run[:number]]
    since = next((other for other in reversed(before) if other in (STARTING, STARTED, *_ENDS)), None)
    return since != STARTING


def _read(of_start: Sequence[Event]) -> Start:
    first = of_start[0]
    end = next((event for event in reversed(of_start) if event["event"] in _ENDS), None)
    told = end or next((event for event in reversed(of_start) if event["event"] == INTERRUPTED), {})
    total = next((event.get("total_steps") for event in of_start if event["event"] == STARTED), None)
    return Start(
        begun=_time(first.get("began")) or first["time"],
        first_step=int(first.get("step", 0)),
        last_step=None if told.get("step") is None else int(told["step"]),
        spent=ledger.read(told.get("spent")),
        ended=None if end is None else end["time"],
        end="" if end is None else _described(end),
        identity=str(first.get("began", "")),
        total_steps=None if total is None else int(total),
        events=of_start,
    )


def _still_open(start: Start, lines: Sequence[Line], beat: Mapping[str, Any]) -> Start:
    """The last start with what its metrics and its heartbeat tell, unless it has said how it ended."""
    later = [line for line in lines if line["step"] > start.first_step]
    if start.spent is not None or start.end:
        step = start.last_step if start.last_step is not None or not later else int(later[-1]["step"])
        return dataclasses.replace(start, last_step=step)
    told = [(int(line["step"]), ledger.of_line(line)) for line in later[-1:]]
    told += [(int(line["step"]), spent) for line in later if (spent := ledger.of_line(line))][-1:]
    if start.identity and beat.get("began") == start.identity:
        told.append((int(beat["step"]), ledger.read(beat.get("spent"))))
    accounts = [spent for _, spent in told if spent]
    return dataclasses.replace(
        start,
        last_step=max((step for step, _ in told), default=start.first_step),
        spent=max(accounts, key=lambda spent: sum(spent.values()), default=None),
    )


def _described(end: Event) -> str:
    return FINISHED if end["event"] == FINISHED else without_type(str(end.get("line") or STOPPED))


def _time(text: Any) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
