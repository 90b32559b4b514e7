"""Goodput: the share of a run's time that made progress, over all its starts and stops.

A *part* of a run reaches from one start to the next, and the last one to the end. Its time is split, and the
seconds of the split add up to it:

==============  ============================================================================================
`training`      computing the steps that are kept
`starting`      from the begin of the process to the end of the first step's compilation
`input`         waiting for batches
`saving`        saving, as far as the training has to wait for it
`evaluating`    evaluations
`lost`          steps that were made again, because the run went on from an earlier one
`down`          between the end of a process and the begin of the next
`rest`          what the files do not explain
==============  ============================================================================================

The account of each process says the first five (see `ledger`). Of a process that was killed, the account
reaches to its last sign of life, at most ten seconds before its end, and `down` begins there.

Older runs have no account. Their `training` is the time that the kept steps take at the usual pace, the
median of `time/step_seconds`, with the usual waits for input; `down` follows a stop only, and all else is
`rest`. The time between the end of a finished run and a later start does not count.
"""

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from data_pipeline.common.buckets import is_bucket
from hicmae_jax.logs import ledger, metrics, starts
from hicmae_jax.logs.starts import FINISHED, Start

NO_WORD = "ended without a word"
RUNNING = "no end yet"
PACE = "time/step_seconds"
LOST, DOWN, REST = "lost", "down", "rest"
SPLIT = (
    *(ledger.TRAINING, ledger.STARTING, ledger.INPUT, ledger.SAVING, ledger.EVALUATING),
    *(LOST, DOWN, REST),
)
"""The kinds of the split, in the order in which they are shown."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A run from one start to the next.

    Attributes:
        begun: time of the start.
        first_step: step from which it went on.
        kept_steps: steps that were not made again later.
        redone_steps: steps that were; 0 if that is not known.
        split: kind → seconds.
        measured: whether the process has kept an account.
        pace: seconds a step; None if no line of the metrics says it.
        end: how it has ended.
    """

    begun: datetime.datetime
    first_step: int
    kept_steps: int
    redone_steps: int
    split: Mapping[str, float]
    measured: bool
    pace: float | None
    end: str

    @property
    def seconds(self) -> float:
        """Time to the next start, or to the end of the run."""
        return sum(self.split.values())

    @property
    def progress(self) -> float:
        """Seconds that made progress."""
        return self.split[ledger.TRAINING]

    @property
    def share(self) -> float | None:
        """Share of the time that made progress; None if it is not known."""
        return self.progress / self.seconds if self.seconds and self._is_known else None

    @property
    def _is_known(self) -> bool:
        return self.measured or self.pace is not None


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
    def split(self) -> dict[str, float]:
        """Kind → seconds of all parts."""
        return {kind: sum(part.split[kind] for part in self.parts) for kind in SPLIT}

    @property
    def measured(self) -> bool:
        """Whether all processes have kept an account."""
        return all(part.measured for part in self.parts)

    @property
    def share(self) -> float | None:
        """Share of the time that made progress; None if the pace or the time is not known."""
        if all(part.share is None for part in self.parts):
            return None
        return sum(part.progress for part in self.parts) / self.seconds


def of_run(directory: epath.PathLike, lines: Sequence[Mapping[str, Any]]) -> Goodput | None:
    """The goodput of a run.

    Args:
        directory: directory of the run, on a disk or in a bucket.
        lines: its metrics.

    Returns:
        None if the run has not begun to train.

    Raises:
        OSError: its events cannot be read.
    """
    return goodput(starts.find(starts.read_events(directory), lines), lines, last_written(directory))


def last_written(directory: epath.PathLike) -> datetime.datetime | None:
    """When the metrics of a run were last written; None if that is not known, as in a bucket."""
    path = Path(os.fspath(directory)) / metrics.FILE
    if is_bucket(directory) or not path.exists():
        return None
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)


def goodput(
    found: Sequence[Start], lines: Sequence[Mapping[str, Any]], written: datetime.datetime | None = None
) -> Goodput | None:
    """The goodput of a run from its starts.

    Args:
        found: its starts, as from `starts.find`.
        lines: the metrics that are left of the run.
        written: when the metrics were last written; the end of an older run whose events do not say it.

    Returns:
        None without a start.
    """
    parts = []
    for number, start in enumerate(found):
        later = found[number + 1 :]
        last_step = start.last_step
        if last_step is None:
            last_step = later[0].first_step if later else start.first_step
        kept_until = min([last_step, *(other.first_step for other in later)])
        kept = max(kept_until - start.first_step, 0)
        pace = _pace(lines, start.first_step, kept_until)
        split = dict.fromkeys(SPLIT, 0.0)
        if start.spent is not None:
            split |= _measured(start.spent, kept, last_step - start.first_step)
            lived = sum(start.spent.values())
        else:
            lived = _lived(start, later[0] if later else None, written)
            split[ledger.TRAINING] = min(kept * (pace or 0.0), lived)
            split[REST] = lived - split[ledger.TRAINING]
        if later and start.end != FINISHED:
            end = start.begun + datetime.timedelta(seconds=lived)
            split[DOWN] = max((later[0].begun - end).total_seconds(), 0.0)
        parts.append(
            Part(
                begun=start.begun,
                first_step=start.first_step,
                kept_steps=kept,
                redone_steps=max(last_step - start.first_step - kept, 0),
                split=split,
                measured=start.spent is not None,
                pace=pace,
                end=start.end or (NO_WORD if later else RUNNING),
            )
        )
    return Goodput(parts) if parts else None


def _measured(spent: Mapping[str, float], kept: int, made: int) -> dict[str, float]:
    """The account of a process, without the share of training and input that went into lost steps."""
    lost = (made - kept) / made if made > kept else 0.0
    split = dict(spent)
    for kind in (ledger.TRAINING, ledger.INPUT):
        split[kind] = spent[kind] * (1 - lost)
    return split | {LOST: (spent[ledger.TRAINING] + spent[ledger.INPUT]) * lost}


def _lived(start: Start, following: Start | None, written: datetime.datetime | None) -> float:
    """Seconds of a process without an account: to its last event, or, if it was killed, to the next start."""
    if start.ended is not None:
        until = start.ended
    elif following is not None:
        # A process that has said when it began may have written nothing since.
        until = start.begun if start.identity else following.begun
    else:
        until = max([start.begun, *([written] if written else []), *(one["time"] for one in start.events)])
    return max((until - start.begun).total_seconds(), 0.0)


def _pace(lines: Sequence[Mapping[str, Any]], first: int, last: int) -> float | None:
    """Median seconds of a step in a part; of the whole run if the part was too short to measure it."""
    everywhere = {line["step"]: line[PACE] for line in lines if PACE in line}
    inside = [seconds for step, seconds in everywhere.items() if first < step <= last]
    measured = inside or list(everywhere.values())
    return float(np.median(measured)) if measured else None
