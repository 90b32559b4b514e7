"""What a run is doing and has done, from the files in its directory; nothing is written.

It loads neither JAX nor Orbax, so that the command starts at once.
"""

import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from data_pipeline.common import anywhere
from data_pipeline.common.buckets import PATIENCE_AT_FIRST
from hicmae_jax.checkpoints import best, listing
from hicmae_jax.checkpoints.checksums import SEAL
from hicmae_jax.logs import events, goodput, ledger, metrics, starts
from hicmae_jax.logs.goodput import PACE, Goodput
from hicmae_jax.logs.starts import Start
from hicmae_jax.runs import run_state
from hicmae_jax.runs.run_state import Judged
from hicmae_jax.supervision import heartbeats

LOSS = "loss/total"
ENOUGH_STEPS = 10
"""Steps of a start from which its time a step is taken, with saves and evaluations."""
_FOLD = re.compile(r"fold-([1-9][0-9]*)")
_QUIET = (starts.STARTING, starts.STARTED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """What a host is doing, by its heartbeat.

    Attributes:
        number: number of the host.
        machine: name of its machine; empty if it is not known.
        stage: a key of `heartbeats.DOING`, or `heartbeats.STOPPED`.
        step: steps made.
        seconds: seconds in the stage when the heartbeat was written.
        age: seconds since the heartbeat, by the clock of the host and the one here.
    """

    number: int
    machine: str
    stage: str
    step: int
    seconds: float
    age: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """The checkpoints of a run.

    Attributes:
        steps: steps of the complete checkpoints, at least one.
        bytes: size of the last one; None if it is damaged.
        age: seconds since it was complete; None if that is not known.
        best_step: step of the best one; None if none has a score.
        best_score: its score.
        best_by: name of the score.
    """

    steps: Sequence[int]
    bytes: int | None
    age: float | None
    best_step: int | None = None
    best_score: float | None = None
    best_by: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """A run.

    Attributes:
        directory: as given.
        state: see `run_state.NOT_BEGUN` and the others.
        why: see `run_state.Judged`.
        step: steps made; None if it has not begun.
        total_steps: steps of the whole run; None if that is not known.
        loss: last loss; `loss_step` is its step.
        loss_step: see `loss`.
        step_seconds: seconds of a step by the last line of the metrics that says it; the next three too.
        clips_per_second: over all hosts.
        mfu: share of the devices' peak, from 0 to 1.
        seconds_a_step: seconds of a step in this start, with its saves, evaluations and waits; None if it
            has made fewer than `ENOUGH_STEPS`.
        seconds_left: time to the last step, of a run that goes on; None if it is not known.
        saved: its checkpoints; None if there is none.
        events: its events, but for those of starts.
        hosts: its hosts by their heartbeats.
        goodput: None if it has not begun.
    """

    directory: str
    state: str
    why: str
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    loss_step: int | None = None
    step_seconds: float | None = None
    clips_per_second: float | None = None
    mfu: float | None = None
    seconds_a_step: float | None = None
    seconds_left: float | None = None
    saved: Saved | None = None
    events: Sequence[Mapping[str, Any]] = ()
    hosts: Sequence[Host] = ()
    goodput: Goodput | None = None


def find_runs(directory: epath.Path) -> list[epath.Path]:
    """The run in a directory, or the runs of its folds, in their order.

    Args:
        directory: on a disk or in a bucket.

    Raises:
        ValueError: one line: it holds no run.
        OSError: it cannot be read.
        ImportError: the package for this kind of bucket is missing.
    """
    names = set(anywhere.names(directory, PATIENCE_AT_FIRST))
    if names & {events.FILE, listing.DIRECTORY}:
        return [directory]
    folds = sorted(int(found[1]) for name in names if (found := _FOLD.fullmatch(name)))
    if folds:
        return [directory / f"fold-{number}" for number in folds]
    what = f"it has neither {events.FILE} nor {listing.DIRECTORY}" if names else "there is nothing"
    raise ValueError(f"{directory} is not the directory of a run: {what}; give --run=DIRECTORY")


def read(directory: epath.Path) -> Status:
    """The status of a run.

    Args:
        directory: directory of the run, on a disk or in a bucket.

    Raises:
        ValueError: one line: the metrics are damaged.
        OSError: the directory cannot be read.
    """
    lines = _lines(directory)
    of_run = starts.read_events(directory)
    beats = heartbeats.read_all(directory)
    found = starts.find(of_run, lines, beats.get(0))
    judged = run_state.judge(directory, found, beats.get(0))
    last = found[-1] if found else None
    # A heartbeat of an earlier start says nothing of this one.
    now = time.time()
    hosts = [
        _host(number, beat, now)
        for number, beat in beats.items()
        if _is_of(beat, beats, last) and "time" in beat
    ]
    saved = _saved(directory)
    step = _step(last, lines, saved)
    total = next((start.total_steps for start in reversed(found) if start.total_steps is not None), None)
    a_step = _seconds_a_step(last)
    return Status(
        directory=str(directory),
        state=judged.state,
        why=judged.why,
        step=step,
        total_steps=total,
        seconds_a_step=a_step,
        seconds_left=_left(judged, step, total, a_step or _last(lines, PACE)),
        saved=saved,
        events=[event for event in of_run if event["event"] not in _QUIET],
        hosts=hosts,
        goodput=goodput.goodput(found, lines, goodput.last_written(directory)),
        loss=_last(lines, LOSS),
        loss_step=next((int(line["step"]) for line in reversed(lines) if LOSS in line), None),
        step_seconds=_last(lines, PACE),
        clips_per_second=_last(lines, "time/clips_per_second"),
        mfu=_last(lines, "time/mfu"),
    )


def _lines(directory: epath.Path) -> list[dict[str, Any]]:
    try:
        return metrics.read_metrics(directory)
    except FileNotFoundError:
        return []


def _is_of(beat: Mapping[str, Any], beats: Mapping[int, Mapping[str, Any]], last: Start | None) -> bool:
    """Whether a heartbeat is of the last start, as far as one can tell.

    Hosts other than the first name their own begin, so theirs count if the first one's does.
    """
    return last is not None and beats.get(0, beat).get("began") == last.identity


def _host(number: int, beat: Mapping[str, Any], now: float) -> Host:
    return Host(
        number=number,
        machine=str(beat.get("host", "")),
        stage=str(beat["stage"]),
        step=int(beat["step"]),
        seconds=float(beat["seconds"]),
        age=run_state.age(beat, now),
    )


def _saved(directory: epath.Path) -> Saved | None:
    root = directory / listing.DIRECTORY
    try:
        paths = listing.find_all(root)
    except FileNotFoundError:
        return None
    if not paths:
        return None
    seal = paths[max(paths)] / SEAL
    size = age = None
    # The checkpoint may be damaged, or just be removed.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        size = sum(about["bytes"] for about in json.loads(anywhere.read(seal))["files"].values())
        age = time.time() - anywhere.modified(seal)
    scored = best.find_best(root)
    name = _score_of(paths, scored.step) if scored else None
    return Saved(
        steps=sorted(paths),
        bytes=size,
        age=age,
        best_step=scored.step if scored else None,
        best_score=scored.value if scored else None,
        best_by=name,
    )


def _score_of(paths: Mapping[int, epath.Path], step: int) -> str | None:
    """Name of the score in the record of a checkpoint."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(anywhere.read(paths[step] / listing.RECORD))["score"]["name"])
    return None


def _step(last: Start | None, lines: Sequence[Mapping[str, Any]], saved: Saved | None) -> int | None:
    if last is not None:
        known = [last.first_step, *([] if last.last_step is None else [last.last_step])]
        return max([*known, *(int(line["step"]) for line in lines[-1:])])
    return max(saved.steps) if saved else None


def _seconds_a_step(last: Start | None) -> float | None:
    """Seconds of a step in a start, with all that does not belong to starting."""
    if last is None or last.spent is None or last.last_step is None:
        return None
    made = last.last_step - last.first_step
    if made < ENOUGH_STEPS:
        return None
    return (sum(last.spent.values()) - last.spent[ledger.STARTING]) / made


def _left(judged: Judged, step: int | None, total: int | None, a_step: float | None) -> float | None:
    if judged.state != run_state.RUNNING or step is None or total is None or a_step is None:
        return None
    return max(total - step, 0) * a_step


def _last(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return next((float(line[name]) for line in reversed(lines) if name in line), None)
