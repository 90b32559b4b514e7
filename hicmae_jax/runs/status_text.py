"""The status of a run as text for people, and as JSON for programs."""

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hicmae_jax.logs.goodput import NO_WORD, Goodput
from hicmae_jax.logs.starts import INTERRUPTED, without_type
from hicmae_jax.logs.words import duration
from hicmae_jax.runs.status import Host, Saved, Status
from hicmae_jax.supervision.heartbeats import DOING, SILENT_AFTER, STOPPED

EVENTS_SHOWN = 5
"""Last events in the text; JSON has all."""
_WIDTH = 12
"""Letters of the first column."""
_OF_KIND = {
    "training": "steps that are kept",
    "starting": "libraries, data, compilation",
    "input": "waiting for batches",
    "saving": "waiting for checkpoints",
    "evaluating": "evaluations",
    "lost": "steps made again",
    "down": "no process was running",
    "rest": "not told by the files",
}


def text(status: Status) -> str:
    """The status of one run, in a few lines.

    Args:
        status: as from `status.read`.
    """
    facts = {
        "run": status.directory,
        "state": _state(status),
        "step": _step(status),
        "loss": _loss(status),
        "pace": _pace(status),
        "time left": _left(status),
        "checkpoint": _checkpoint(status.saved),
        "best": _best(status.saved),
        "goodput": _goodput(status.goodput),
    }
    blocks = [
        [f"{name:{_WIDTH}}{fact}" for name, fact in facts.items() if fact],
        [" " * _WIDTH + line for line in _table(_split(status.goodput), right=(1, 2))],
        _table([["host", "machine", "doing", "for", "after step", "heartbeat"], *map(_host, status.hosts)])
        if any(host.stage != STOPPED for host in status.hosts)
        else [],
        _events(status.events),
    ]
    joined = blocks[0] + blocks[1]
    return "\n\n".join("\n".join(block) for block in (joined, *blocks[2:]) if block)


def folds_text(statuses: Sequence[Status]) -> str:
    """A line for each of several runs.

    Args:
        statuses: as from `status.read`, in order.
    """
    rows = [["fold", "state", "step", "loss", "best", "time left", "goodput"]]
    for status in statuses:
        rows.append(
            [
                status.directory.rpartition("/")[2],
                status.state,
                _step(status) or "–",
                "–" if status.loss is None else f"{status.loss:.4f}",
                _best(status.saved) or "–",
                "–" if status.seconds_left is None else duration(status.seconds_left),
                _goodput(status.goodput) or "–",
            ]
        )
    return "\n".join(_table(rows))


def as_json(statuses: Sequence[Status]) -> str:
    """The same for programs: one object for each run, in a list, with all events.

    Args:
        statuses: as from `status.read`, in order.
    """
    return json.dumps([_for_json(_fields(status)) for status in statuses], indent=1, allow_nan=False)


def _fields(status: Status) -> dict[str, Any]:
    found = dataclasses.asdict(status)
    if status.goodput is not None:
        of_run = status.goodput
        found["goodput"] = {
            "seconds": of_run.seconds,
            "share": of_run.share,
            "split": of_run.split,
            "measured": of_run.measured,
            "starts": [
                {**dataclasses.asdict(part), "seconds": part.seconds, "share": part.share}
                for part in of_run.parts
            ],
        }
    return found


def _for_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _for_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(one) for one in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


# --- Lines --------------------------------------------------------------------------------------------------


def _state(status: Status) -> str:
    """The state and why; only why, if it names the state."""
    if not status.why or status.why.startswith(status.state):
        return status.why or status.state
    return f"{status.state}: {status.why}"


def _step(status: Status) -> str:
    if status.step is None:
        return ""
    if status.total_steps is None:
        return f"{status.step:,}"
    share = f" ({status.step / status.total_steps:.1%})" if status.total_steps else ""
    return f"{status.step:,} of {status.total_steps:,}{share}"


def _loss(status: Status) -> str:
    return "" if status.loss is None else f"{status.loss:.4f} at step {status.loss_step:,}"


def _pace(status: Status) -> str:
    if status.step_seconds is None or status.clips_per_second is None:
        return ""
    mfu = "" if status.mfu is None else f", MFU {status.mfu:.1%}"
    return f"{_seconds(status.step_seconds)} a step, {status.clips_per_second:,.4g} clips a second{mfu}"


def _left(status: Status) -> str:
    if status.seconds_left is None:
        return ""
    how = (
        f"at {_seconds(status.seconds_a_step)} a step, with evaluations and saves, since this start"
        if status.seconds_a_step is not None
        else "at this pace, without evaluations and saves"
    )
    return f"{duration(status.seconds_left)}, {how}"


def _checkpoint(saved: Saved | None) -> str:
    if saved is None:
        return ""
    about = [f"step {max(saved.steps):,}"]
    if saved.age is not None:
        about.append(f"{duration(max(saved.age, 0))} ago")
    about.append("damaged" if saved.bytes is None else _size(saved.bytes))
    about.append(f"{len(saved.steps)} kept")
    return ", ".join(about)


def _best(saved: Saved | None) -> str:
    if saved is None or saved.best_step is None:
        return ""
    return f"step {saved.best_step:,}, {saved.best_by} {saved.best_score:.4g}"


def _goodput(of_run: Goodput | None) -> str:
    if of_run is None:
        return ""
    share = "not known" if of_run.share is None else f"{of_run.share:.1%}"
    starts = f"{len(of_run.parts)} start{'s' if len(of_run.parts) > 1 else ''}"
    return f"{share} of {duration(of_run.seconds)}, {starts}"


def _split(of_run: Goodput | None) -> list[list[str]]:
    """Rows of kind, time, share and meaning, of the kinds that have taken any time."""
    if of_run is None or not of_run.seconds:
        return []
    rows = [
        [kind, duration(seconds), f"{seconds / of_run.seconds:.1%}", _OF_KIND[kind]]
        for kind, seconds in of_run.split.items()
        if seconds
    ]
    if not of_run.measured:
        rows.append(["", "", "", "an older start kept no account: its training is estimated by its pace"])
    return rows


def _host(host: Host) -> list[str]:
    doing = DOING.get(host.stage, host.stage)
    heard = f"{duration(max(host.age, 0))} ago"
    if host.age >= SILENT_AFTER and host.stage != STOPPED:
        heard += ": silent"
    return [str(host.number), host.machine, doing, duration(host.seconds), f"{host.step:,}", heard]


def _events(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last events, and how many there are before them."""
    shown = events[-EVENTS_SHOWN:]
    rows = [[f"{one['time']:%Y-%m-%d %H:%M:%S}", one["event"], _line(one)] for one in shown]
    before = len(events) - len(shown)
    head = ["events, UTC" + (f"; {before:,} before these" if before else "")] if rows else []
    return head + _table(rows)


def _line(event: Mapping[str, Any]) -> str:
    """What an event says besides its name."""
    if "line" in event:
        return without_type(str(event["line"]))
    after = f"after step {event['step']:,}" if isinstance(event.get("step"), int) else ""
    return f"{NO_WORD} {after}".rstrip() if event["event"] == INTERRUPTED else after


def _size(count: int) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s"


def _table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines with aligned columns; those whose numbers are in `right` are aligned at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [f"{cell:{'>' if column in right else '<'}{widths[column]}}" for column, cell in enumerate(row)]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in aligned]
