"""The directory of a run that was never trained, as `hicmae status` reads it."""

import datetime
import json
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hicmae_jax.logs import ledger
from hicmae_jax.runs import alive

TOTAL = 400
LIVED = 100.0
"""Seconds from the begin of the process to now."""


def spent(step: int) -> dict[str, float]:
    """The account after so many steps: a tenth of a second for each, besides the start and others."""
    return dict(zip(ledger.KINDS, (20.0, step / 10, step / 100, 1.0, 3.0), strict=True))


def moment(ago: float) -> str:
    """A time in ISO's format, so many seconds ago."""
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=ago)).isoformat()


def events(*more: Mapping[str, Any], began: str) -> list[dict[str, Any]]:
    """The events of a run that has begun to train, and further ones."""
    return [
        {"time": moment(LIVED - 5), "event": "starting", "step": 0, "began": began},
        {"time": moment(LIVED - 9), "event": "started", "step": 0, "total_steps": TOTAL, "processes": 1},
        *({"time": moment(0), **event} for event in more),
    ]


def heartbeat(began: str, ago: float = 4.0, step: int = 120, **fields: Any) -> dict[str, Any]:
    """A heartbeat of this process, which is alive."""
    return {
        "beat": 9,
        "step": step,
        "stage": "device",
        "seconds": 0.2,
        "time": moment(ago),
        "spent": spent(step),
        "began": began,
        "host": "node3",
        "identity": alive.identity(),
        **fields,
    }


def files(
    *more: Mapping[str, Any],
    beats: Sequence[Mapping[str, Any]] | None = None,
    lines: int = 118,
    held: bool = True,
    checkpoints: Mapping[int, float | None] | None = None,
) -> dict[str, bytes]:
    """The files of a run, by their names.

    Args:
        more: further events.
        beats: fields of the heartbeats of its hosts; by default one host.
        lines: steps in its metrics.
        held: whether a process holds its directory.
        checkpoints: step → score, or None without one.
    """
    began = moment(LIVED)
    metrics = [
        {
            "step": step,
            "loss/total": 2.0 - step / 1000,
            "time/step_seconds": 0.1,
            "time/clips_per_second": 80.0,
            "time/mfu": 0.41,
            **ledger.in_metrics(spent(step)),
        }
        for step in range(1, lines + 1)
    ]
    found: dict[str, Any] = {
        "events.jsonl": _lines(events(*more, began=began)),
        "metrics.jsonl": _lines(metrics),
        "config.json": b"{}",
    }
    for host, fields in enumerate([{}] if beats is None else beats):
        found[f"hosts/{host}.json"] = json.dumps(heartbeat(**({"began": began} | dict(fields)))).encode()
    if held:
        holder = {"process": 1, "host": socket.gethostname(), "token": "x"}
        found["in_use.json"] = json.dumps(holder).encode()
    for step, score in ({100: None} if checkpoints is None else checkpoints).items():
        named = {"name": "held_out/total", "mode": "min", "value": score}
        record = {"config": {}} | ({} if score is None else {"score": named})
        found[f"checkpoints/{step}/record.json"] = json.dumps(record).encode()
        seal = {"files": {"record.json": {"bytes": 1_000}, "state/d/1": {"bytes": 2_499_000}}}
        found[f"checkpoints/{step}/checksums.json"] = json.dumps(seal).encode()
    return found


def write(directory: Path, content: Mapping[str, bytes]) -> Path:
    """Write files, as from `files`; returns the directory."""
    for name, text in content.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return directory


def no_process() -> str:
    """The identity of a process of this machine that has ended."""
    machine = alive.identity().rsplit("/", 2)[0]
    return f"{machine}/999999999/{int(time.monotonic())}"


def _lines(values: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()
