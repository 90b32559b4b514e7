"""Tells what has become of a run's process, from the files that it keeps up to date.

A heartbeat is written every ten seconds with the time of the host's clock, which may differ from the clock
here. So a heartbeat that seems old, or of the future, is read again a little later: if it has changed, the
run is alive.
"""

import datetime
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from data_pipeline.common import anywhere
from hicmae_jax.logs.starts import FINISHED, Start
from hicmae_jax.logs.words import duration
from hicmae_jax.runs import alive, in_use
from hicmae_jax.supervision import heartbeats
from hicmae_jax.supervision.heartbeats import SILENT_AFTER

NOT_BEGUN, STARTING, RUNNING, STOPPED, KILLED, SILENT = (
    *("not begun", "starting", "running"),
    *("stopped", "killed", "silent"),
)
"""States of a run; `FINISHED` of `logs.starts` is one too."""
LOOKS_AGAIN_AFTER = 12.0
"""Seconds to the second reading of a heartbeat; the next is written after ten."""
CLOCKS_DIFFER = 3_600.0
"""Seconds by which two clocks may differ; an older heartbeat is not read again."""
PATIENCE = 20.0
"""Seconds for which a request to a bucket is tried again."""


class Judged(NamedTuple):
    """What has become of a run.

    Attributes:
        state: see `NOT_BEGUN` and the others.
        why: from what it is known, or how the run has ended, in one line.
    """

    state: str
    why: str


def age(beat: Mapping[str, Any], now: float) -> float:
    """Seconds since a heartbeat, by the clock of its host and the one here; below 0 if they differ.

    Args:
        beat: as from `heartbeats.read`.
        now: seconds since 1970.
    """
    return now - seconds_of(str(beat["time"]))


def seconds_of(text: str) -> float:
    """A time in ISO's format, in seconds since 1970."""
    return datetime.datetime.fromisoformat(text).timestamp()


def judge(directory: epath.Path, starts: Sequence[Start], beat: Mapping[str, Any] | None) -> Judged:
    """What has become of a run. In doubt it waits for `LOOKS_AGAIN_AFTER` seconds.

    Args:
        directory: directory of the run, on a disk or in a bucket.
        starts: its starts, as from `starts.find`.
        beat: the heartbeat of the first host, if it has left one.

    Raises:
        OSError: the directory cannot be read.
    """
    if not starts:
        return Judged(NOT_BEGUN, "its events tell of no start")
    last = starts[-1]
    if last.end:
        return Judged(FINISHED, "") if last.end == FINISHED else Judged(STOPPED, last.end)
    if beat is None or beat.get("began") != last.identity:
        return _without_heartbeat(directory, last, time.time())
    if beat["stage"] == heartbeats.STOPPED:
        return Judged(STOPPED, "with an error before the first step: see its own output")
    if alive.is_alive(str(beat.get("identity", ""))) is False:
        return Judged(KILLED, "its process has ended without a word")
    old = age(beat, time.time())
    if 0 <= old < SILENT_AFTER:
        return Judged(RUNNING, "by the time of its heartbeat")
    if abs(old) < CLOCKS_DIFFER:
        time.sleep(LOOKS_AGAIN_AFTER)
        if heartbeats.read(directory, 0) != beat:
            return Judged(RUNNING, "its heartbeat was read twice and has changed; the clocks differ")
    if _holder(directory) is None:
        return Judged(KILLED, "no process holds its directory")
    return Judged(
        SILENT,
        f"no heartbeat for {duration(abs(old))}: it was killed or hangs, or cannot write to its directory",
    )


def _without_heartbeat(directory: epath.Path, last: Start, now: float) -> Judged:
    """Of a process that has just begun, or of an older run."""
    holder = _holder(directory)
    if holder is None:
        return Judged(KILLED, "no process holds its directory")
    if alive.is_alive(str(holder.get("identity", ""))) is False:
        return Judged(KILLED, "its process has ended without a word")
    who = f"process {holder.get('process')} on host {holder.get('host')}"
    old = now - last.events[-1]["time"].timestamp()
    if 0 <= old < SILENT_AFTER:
        return Judged(STARTING, f"{who} has begun {duration(old)} ago")
    return Judged(SILENT, f"{who} writes no heartbeat")


def _holder(directory: epath.Path) -> Mapping[str, Any] | None:
    """The process that holds the directory; None if there is none."""
    try:
        found = json.loads(anywhere.read(directory / in_use.FILE, PATIENCE))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
