"""Goodput: the share of a run's time that made progress, over all its starts and stops.

A *part* of a run reaches from one start to the next, and the last one to the end. The progress of a part is
the time that its kept steps take at its usual pace, the median of `time/step_seconds`. The rest of its time
is lost: compilation, evaluations, checkpoints, slow steps, steps that were made again after a kill, and the
wait for the next start. The time between the end of a finished run and a later start does not count.
"""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hicmae_jax.logs import events, metrics

STARTED, STOPPED, FINISHED = "started", "stopped", "finished"
NO_WORD = "ended without a word"
RUNNING = "no end yet"
PACE = "time/step_seconds"


@dataclasses.dataclass(frozen=True)
class Part:
    """A run from one start to the next.

    Attributes:
        begun: time of the start.
        first_step: step from which it went on.
        kept_steps: steps from there to the step from which the next part goes on, or to the last one.
        seconds: time to the next start, or to the end of the run.
        pace: seconds a step; None if no line of the metrics says it.
        end: how it has ended.
    """

    begun: datetime.datetime
    first_step: int
    kept_steps: int
    seconds: float
    pace: float | None
    end: str

    @property
    def progress(self) -> float:
        """Seconds that made progress, at most all."""
        return min(self.kept_steps * (self.pace or 0.0), self.seconds)


@dataclasses.dataclass(frozen=True)
class Goodput:
    """All parts of a run.

    Attributes:
        parts: at least one.
    """

    parts: Sequence[Part]

    @property
    def seconds(self) -> float:
        """Time of all parts."""
        return sum(part.seconds for part in self.parts)

    @property
    def share(self) -> float | None:
        """Share of the time that made progress; None if the pace or the time is not known."""
        if not self.seconds or all(part.pace is None for part in self.parts):
            return None
        return sum(part.progress for part in self.parts) / self.seconds


def of_run(directory: Path, lines: Sequence[Mapping[str, Any]]) -> Goodput | None:
    """The goodput of a run.

    Args:
        directory: directory of the run.
        lines: its metrics.

    Returns:
        None if the run has not begun to train.
    """
    written = directory / metrics.FILE
    last = written.stat().st_mtime if written.exists() else 0.0
    return goodput(read_events(directory), lines, datetime.datetime.fromtimestamp(last, datetime.UTC))


def goodput(
    of_run: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], written: datetime.datetime
) -> Goodput | None:
    """The goodput of a run from its events.

    Args:
        of_run: events in order, with `time` as a time.
        lines: the metrics that are left of the run.
        written: when the metrics were last written; the end of a run whose events do not say it.

    Returns:
        None without a start.
    """
    starts = [index for index, event in enumerate(of_run) if event["event"] == STARTED]
    if not starts:
        return None
    last_step = int(lines[-1]["step"]) if lines else 0
    parts = []
    for index, following in zip(starts, [*starts[1:], None], strict=True):
        start = of_run[index]
        inside = of_run[index + 1 : following]
        is_last = following is None
        next_step = last_step if following is None else int(of_run[following]["step"])
        end = next((event for event in reversed(inside) if event["event"] in (STOPPED, FINISHED)), None)
        if end is not None and (is_last or end["event"] == FINISHED):
            until = end["time"]
        elif following is not None:
            until = of_run[following]["time"]
        else:
            until = max([start["time"], written, *(event["time"] for event in inside)])
        parts.append(
            Part(
                begun=start["time"],
                first_step=int(start["step"]),
                kept_steps=max(next_step - int(start["step"]), 0),
                seconds=max((until - start["time"]).total_seconds(), 0.0),
                pace=_pace(lines, int(start["step"]), next_step),
                end=_end(end, is_last),
            )
        )
    return Goodput(parts)


def read_events(directory: Path) -> list[dict[str, Any]]:
    """Events of a run in order, each with `event` and `time`; lines that are cut off do not count.

    Args:
        directory: directory of the run.
    """
    path = directory / events.FILE
    if not path.exists():
        return []
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(text)
            found.append({**event, "time": datetime.datetime.fromisoformat(event["time"])})
        except (ValueError, KeyError, TypeError):
            continue  # a killed process may leave half a line
    return [event for event in found if "event" in event]


def _pace(lines: Sequence[Mapping[str, Any]], first: int, last: int) -> float | None:
    """Median seconds of a step in a part; of the whole run if the part was too short to measure it."""
    everywhere = {line["step"]: line[PACE] for line in lines if PACE in line}
    inside = [seconds for step, seconds in everywhere.items() if first < step <= last]
    measured = inside or list(everywhere.values())
    return float(np.median(measured)) if measured else None


def _end(event: Mapping[str, Any] | None, is_last: bool) -> str:
    if event is None:
        return RUNNING if is_last else NO_WORD
    return FINISHED if event["event"] == FINISHED else str(event.get("line") or STOPPED)
