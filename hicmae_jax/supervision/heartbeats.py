"""What the hosts of a run let each other know while it runs: a small file of each in the run's directory.

    <run>/hosts/<process>.json    {"beat": 12, "step": 1234, "stage": "input", "seconds": 45.1, "time": "…"}

A host that is held up reads those of others, and again, and judges by what has changed between two readings:
clocks may differ, and a file may be of an earlier run. All watch the first host, and that one watches all: a
large run that is stuck must not read hosts² files.
"""

import contextlib
import datetime
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hicmae_jax.supervision.activity import DOING

DIRECTORY = "hosts"
STOPPED = "stopped"
SILENT_AFTER = 30.0
"""Seconds without news after which a host is named: three beats."""

# Stages in which a host at the same step waits for the others itself.
_WAITING_TOO = ("device", "log", "training")


class _Beat(NamedTuple):
    step: int
    stage: str
    seconds: float


class _News(NamedTuple):
    text: str
    since: float
    changed: bool


class Heartbeats:
    """This host's file, and what those of others say of who holds it up.

    Nothing is written or read where there is one host. A file that cannot be written or read is left for the
    next time: the run matters more.

    Args:
        directory: of the run; hosts share it.
        process: this process's number.
        processes: how many take part.
        clock: seconds, never going back.
    """

    def __init__(
        self, directory: Path, process: int, processes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = Path(directory) / DIRECTORY
        self._process = process
        self._processes = processes
        self._clock = clock
        self._watched = tuple(range(1, processes)) if process == 0 else (0,)
        self._beats = 0
        self._news: dict[int, _News] = {}
        self._left: dict[int, str] = {}

    def begin(self) -> None:
        """Note what an earlier run has left, which is no news of this one; delete what none will replace."""
        if self._processes == 1:
            return
        if self._process == 0:
            with contextlib.suppress(OSError):
                for path in self._directory.glob("*.json"):
                    if path.stem.isdecimal() and int(path.stem) >= self._processes:
                        path.unlink()
        self._left = {host: self._read(host) for host in self._watched}

    def write(self, step: int, stage: str, seconds: float) -> None:
        """Let the others know.

        Args:
            step: steps made so far.
            stage: a key of `DOING`, or `STOPPED`.
            seconds: for how long in this stage.
        """
        if self._processes == 1:
            return
        self._beats += 1
        beat = {
            "beat": self._beats,  # so that no two are alike
            "step": step,
            "stage": stage,
            "seconds": round(seconds, 1),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        path = self._path(self._process)
        partial = path.with_suffix(".partial")
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            partial.write_text(json.dumps(beat) + "\n")
            os.replace(partial, path)

    def held_up_by(self, step: int, stage: str) -> str:
        """Who this host may be waiting for, by the news since it is held up; to be asked again and again.

        Args:
            step: steps made by this host.
            stage: that it is in.

        Returns:
            Names and reasons, in one sentence; empty if none is known.
        """
        if self._processes == 1:
            return ""
        return "; ".join(filter(None, (self._reason(host, step, stage) for host in self._watched)))

    def forget(self) -> None:
        """This host is not held up any more."""
        self._news.clear()

    def remove(self) -> None:
        """Leave nothing behind: the run has ended as it should."""
        if self._processes == 1:
            return
        with contextlib.suppress(OSError):
            self._path(self._process).unlink()
            self._directory.rmdir()  # fails until the last host

    def _reason(self, host: int, step: int, stage: str) -> str:
        now, text = self._clock(), self._read(host)
        news = self._news.get(host)
        if news is None or news.text != text:
            news = self._news[host] = _News(text, now, changed=news is not None)
        beat = None if text == self._left.get(host) else _parse(text)
        if beat and beat.stage == STOPPED:
            return f"host {host} has stopped after step {beat.step:,} with an error: see its own output"
        if now - news.since >= SILENT_AFTER:
            last = f", last {DOING[beat.stage]} after step {beat.step:,}" if beat else ""
            return f"host {host} has not been heard of for {duration(now - news.since)}{last}"
        if not (beat and news.changed):
            return ""
        is_behind = beat.step < step and beat.stage != "device"
        is_elsewhere = beat.step == step and beat.stage not in (stage, *_WAITING_TOO)
        if not (is_behind or is_elsewhere):
            return ""
        doing = f"{DOING[beat.stage]} for {duration(beat.seconds)}"
        return f"host {host} has been {doing}, after step {beat.step:,}"

    def _path(self, host: int) -> Path:
        return self._directory / f"{host}.json"

    def _read(self, host: int) -> str:
        try:
            return self._path(host).read_text()
        except (OSError, UnicodeDecodeError):
            return ""


def duration(seconds: float) -> str:
    """Seconds in words, with the digits that matter."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def _parse(text: str) -> _Beat | None:
    """What a file says, None if it is not one of ours."""
    try:
        told = json.loads(text)
        beat = _Beat(int(told["step"]), str(told["stage"]), float(told["seconds"]))
    except (ValueError, TypeError, KeyError):
        return None
    return beat if beat.stage in DOING or beat.stage == STOPPED else None
