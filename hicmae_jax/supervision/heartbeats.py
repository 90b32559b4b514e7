"""Says what each host of a run is doing, and finds out which one holds up the others.

Each host writes a small file into the run's directory, which `hicmae status` reads too::

    <run>/hosts/<process>.json    {"beat": 12, "step": 1234, "stage": "input", "seconds": 45.1, "time": "…",
                                   "spent": {…}, "began": "…", "host": "node3", "identity": "…"}

A host that is held up reads the files of others twice and judges by what has changed in between, because
clocks may differ and a file may be of an earlier run. All hosts watch the first, and the first watches all:
otherwise a large run that hangs would read hosts² files.
"""

import contextlib
import datetime
import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from etils import epath

from data_pipeline.common import anywhere
from data_pipeline.common.buckets import THREADS, is_bucket
from hicmae_jax.logs.words import duration

DIRECTORY = "hosts"
DOING = {
    "training": "in the training loop",
    "start": "starting",
    "input": "waiting for input",
    "device": "waiting for the devices",
    "log": "writing the log",
    "checkpoint": "saving a checkpoint",
    "evaluation": "evaluating",
    "compilation": "compiling",
}
"""The stages of a run → their words in messages; `training` is everything outside the other stages."""
STOPPED = "stopped"
"""Stage of a host that has ended with an error."""
PATIENCE = 5.0
"""Seconds for which a request to a bucket is tried again; the next heartbeat tries anew."""
SILENT_AFTER = 30.0
"""Seconds without a new heartbeat after which a host counts as silent: three beats."""

_WAITS_FOR_OTHERS = ("device", "log", "training")
"""Stages in which a host at the same step may itself wait for other hosts."""


class _Beat(NamedTuple):
    step: int
    stage: str
    seconds: float


class _News(NamedTuple):
    text: str
    since: float
    changed: bool


class Heartbeats:
    """Writes this host's heartbeat, and finds out from those of others which host holds it up.

    If a file cannot be written or read, it tries again at the next beat: the run goes on.

    Args:
        directory: directory of the run, on a disk that all hosts share, or in a bucket.
        process: number of this process.
        processes: number of processes of the run.
        clock: returns seconds that never go back.
        about: what every heartbeat also says of this process, in types of JSON.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        process: int,
        processes: int,
        clock: Callable[[], float] = time.monotonic,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._directory = epath.Path(directory) / DIRECTORY
        self._process = process
        self._processes = processes
        self._clock = clock
        self._about = dict(about or {})
        self._watched = tuple(range(1, processes)) if process == 0 else (0,)
        self._beats = 0
        self._news: dict[int, _News] = {}
        self._left: dict[int, str] = {}

    def begin(self) -> None:
        """Remember an earlier run's files, to ignore them, and delete those that no host will replace."""
        if self._process == 0:
            with contextlib.suppress(OSError):
                for name in anywhere.names(self._directory, PATIENCE):
                    number = name.removesuffix(".json")
                    if number.isdecimal() and int(number) >= self._processes:
                        anywhere.remove(self._directory / name, PATIENCE)
        self._left = {host: self._read(host) for host in self._watched}

    def write(self, step: int, stage: str, seconds: float, spent: Mapping[str, float] | None = None) -> None:
        """Write this host's heartbeat.

        Args:
            step: steps made so far.
            stage: a key of `DOING`, or `STOPPED`.
            seconds: seconds since the stage began.
            spent: the account of the main thread's time, see `logs.ledger`.
        """
        self._beats += 1
        beat = {
            "beat": self._beats,  # makes the text of every heartbeat different
            "step": step,
            "stage": stage,
            "seconds": round(seconds, 1),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **({"spent": dict(spent)} if spent else {}),
            **self._about,
        }
        path = self._path(self._process)
        with contextlib.suppress(OSError):
            anywhere.write(path, f"{json.dumps(beat)}\n".encode(), PATIENCE)

    def held_up_by(self, step: int, stage: str) -> str:
        """Name the hosts that this one may be waiting for; call it repeatedly while the host is held up.

        Args:
            step: steps made by this host.
            stage: what this host does.

        Returns:
            The hosts and what they do, in one sentence; empty if none is known yet.
        """
        return "; ".join(filter(None, (self._reason(host, step, stage) for host in self._watched)))

    def forget(self) -> None:
        """Forget the other hosts' heartbeats, because this host is no longer held up."""
        self._news.clear()

    def remove(self) -> None:
        """Delete this host's heartbeat, at the end of a run without an error."""
        with contextlib.suppress(OSError):
            anywhere.remove(self._path(self._process), PATIENCE)
            if not is_bucket(self._directory):
                os.rmdir(self._directory)  # succeeds on the last host only

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
        is_elsewhere = beat.step == step and beat.stage not in (stage, *_WAITS_FOR_OTHERS)
        if not (is_behind or is_elsewhere):
            return ""
        doing = f"{DOING[beat.stage]} for {duration(beat.seconds)}"
        return f"host {host} has been {doing}, after step {beat.step:,}"

    def _path(self, host: int) -> epath.Path:
        return self._directory / f"{host}.json"

    def _read(self, host: int) -> str:
        try:
            return anywhere.read(self._path(host), PATIENCE).decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return ""


def read(directory: epath.PathLike, host: int) -> dict[str, Any] | None:
    """The heartbeat that a host has left.

    Args:
        directory: directory of the run, on a disk or in a bucket.
        host: number of the host.

    Returns:
        Its fields, with at least `step`, `stage` and `seconds`; None if there is none, or it is damaged.
    """
    try:
        text = anywhere.read(epath.Path(directory) / DIRECTORY / f"{host}.json", PATIENCE).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return None if _parse(text) is None else dict(json.loads(text))


def read_all(directory: epath.PathLike) -> dict[int, dict[str, Any]]:
    """Number of the host → its heartbeat, see `read`.

    Raises:
        OSError: the directory cannot be listed.
    """
    names = anywhere.names(epath.Path(directory) / DIRECTORY)
    hosts = sorted(
        int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdecimal()
    )
    with ThreadPoolExecutor(THREADS) as pool:
        beats = dict(zip(hosts, pool.map(functools.partial(read, directory), hosts), strict=True))
    return {host: beat for host, beat in beats.items() if beat is not None}


def _parse(text: str) -> _Beat | None:
    """The content of a heartbeat; None for any other text."""
    try:
        fields = json.loads(text)
        beat = _Beat(int(fields["step"]), str(fields["stage"]), float(fields["seconds"]))
    except (ValueError, TypeError, KeyError):
        return None
    return beat if beat.stage in DOING or beat.stage == STOPPED else None
