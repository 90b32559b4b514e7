"""Watches a run's main thread: reports slow steps and what they wait for, and ends a run that hangs.

The main thread calls `stage` and `step` to say what it does. Each call replaces a tuple or two, takes no lock
and costs microseconds. Another thread reads them once a second. Starting, evaluating, saving and compiling
are pauses: each kind is timed separately and does not count as part of a step. The calls also keep the
account of the run's time (see `logs.ledger`).

The heartbeats have a thread of their own, which a slow bucket or disk may hold up.

A step is slow if it takes more than `slow` × the median of the last hundred steps; likewise a pause. The
limit is never above half of `minutes`, and it is half of `minutes` until enough steps are known. Each slow
step is reported once, and at most one step a minute is reported.
"""

import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from etils import epath

from hicmae_jax.logs import ledger
from hicmae_jax.logs.ledger import Ledger
from hicmae_jax.logs.words import duration
from hicmae_jax.supervision.deadline import STACKS, Deadline
from hicmae_jax.supervision.heartbeats import DOING, SILENT_AFTER, STOPPED, Heartbeats

STEP = "step"
PAUSES = ("start", "checkpoint", "evaluation", "compilation")
WINDOW = 100
"""Number of last durations of each kind from which the median is computed."""
ENOUGH = {STEP: 20} | dict.fromkeys(PAUSES, 3)
"""Durations that must be known before their median counts; pauses are rare."""
SHORTEST = 1.0
"""Seconds that are never slow, whatever the median: the thread looks once a second."""
QUIET = 60.0
"""Seconds from one report to the next, so that a slow disk does not fill the log."""
BEAT, BEAT_HELD_UP = 10.0, 2.0
"""Seconds from one heartbeat to the next, usually and while this host may have to wait for another."""
PATIENCE = SILENT_AFTER + 5.0
"""Seconds by which a host delays a report that it waits for other hosts, to find out for which one."""

_KINDS = {"input": ledger.INPUT, "checkpoint": ledger.SAVING, "evaluation": ledger.EVALUATING}
"""Stages → the kinds of the account to which they belong; all others are training."""

_ADVICE = {
    "input": "clips are read slowly: see to the disk, then to config.data.threads and config.data.workers",
    "device": "a device is slow or stuck",
    "checkpoint": "the disk of the run is slow or stuck",
}


class Activity(NamedTuple):
    """The activity of the main thread; replaced as a whole, so another thread never sees half a change.

    Attributes:
        step: steps made.
        stage: a key of `DOING`.
        since: when the stage began or the last step was made: the last sign of life, in seconds.
        step_since: when the current step began, later by its pauses.
        pause: the pause that it is in, one of `PAUSES`; empty for none.
        pause_since: when the pause began.
    """

    step: int
    stage: str
    since: float
    step_since: float
    pause: str = ""
    pause_since: float = 0.0

    @property
    def kind(self) -> str:
        """`STEP`, or the pause."""
        return self.pause or STEP

    def elapsed(self, now: float) -> float:
        """Seconds that the step, or the pause, has taken."""
        return now - (self.pause_since if self.pause else self.step_since)


class Watchdog:
    """Reports slow steps, and ends the process when the main thread gives no sign of life.

    Only the main thread calls `stage` and `step`. Each process writes a heartbeat (see `heartbeats`), so that
    a report can name the host that holds up the rest. An error of the watchdog itself does not stop the run.

    Args:
        report: called with one line, from another thread.
        directory: directory of the run, shared by all its processes, on a disk or in a bucket.
        process: number of this process.
        processes: number of processes of the run.
        slow: multiple of the median above which a step is slow.
        minutes: minutes without a sign of life after which the process ends with exit code 70.
        step: number of steps made before.
        clock: returns seconds that never go back.
        interval: seconds from one look to the next.
        stacks: directory on a disk for the stacks of a run that hangs; None for the run's.
        send: sends the stacks from there to the directory of the run; None if that is the same.
        before: seconds since the process began, which count as starting.
        about: what every heartbeat also says of this process, in types of JSON.
    """

    def __init__(
        self,
        report: Callable[[str], None],
        directory: epath.PathLike,
        process: int = 0,
        processes: int = 1,
        *,
        slow: float = 10.0,
        minutes: float = 30.0,
        step: int = 0,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 1.0,
        stacks: epath.PathLike | None = None,
        send: Callable[[], None] | None = None,
        before: float = 0.0,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._report = report
        self._several = processes > 1
        self._name = f"watchdog of host {process}" if self._several else "watchdog"
        self._slow = slow
        self._longest = 60 * minutes / 2
        self._clock = clock
        self._interval = interval

        self._activity = Activity(step, "training", clock(), clock())
        self._durations: dict[str, tuple[float, ...]] = dict.fromkeys(ENOUGH, ())
        self._ledger, self._has_compiled = Ledger(clock, before), False
        self._heartbeats = Heartbeats(directory, process, processes, clock, about)
        self._deadline = Deadline(
            60 * minutes,
            heard=lambda: self._activity.since,
            describe=self._describe,
            stacks=Path(stacks or directory) / STACKS.format(process=process),
            clock=clock,
            interval=interval,
            send=send,
            sent=str(epath.Path(directory) / STACKS.format(process=process)),
        )

        self._held_up = False
        self._culprit = ""
        self._beat_due = self._quiet_until = clock()
        self._reported: tuple[str, int] | None = None
        self._has_failed = self._run_failed = False
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._look_until_stopped, name="watchdog", daemon=True),
            threading.Thread(target=self._beat_until_stopped, name="heartbeats", daemon=True),
        ]

    def __enter__(self) -> Self:
        self._deadline.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run_failed = kind is not None
        self._stopping.set()
        for thread in self._threads:
            thread.join(5.0)  # it may never end, if the disk that it writes to hangs
        self._deadline.stop()

    # --- The main thread ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say what the main thread does inside the block. If stages are nested, the innermost counts.

        Args:
            name: a key of `DOING`.

        Raises:
            ValueError: there is no such stage.
        """
        if name not in DOING:
            raise ValueError(f"stage {name!r} is none of {', '.join(DOING)}")
        outer, now = self._activity, self._clock()
        begins = not outer.pause and name in PAUSES
        inner = outer._replace(stage=name, since=now)
        self._activity = inner._replace(pause=name, pause_since=now) if begins else inner
        self._account()
        try:
            yield
        finally:
            inner, now = self._activity, self._clock()
            paused = inner.elapsed(now) if begins else 0.0
            if begins:
                self._add_duration(name, paused)
            self._activity = inner._replace(
                stage=outer.stage, since=now, step_since=inner.step_since + paused, pause=outer.pause
            )
            self._has_compiled = self._has_compiled or name == "compilation"
            self._account()

    def step(self, made: int) -> None:
        """Say that a step has been made; not inside a pause.

        Args:
            made: steps made so far.
        """
        now = self._clock()
        self._add_duration(STEP, self._activity.elapsed(now))
        self._activity = self._activity._replace(step=made, since=now, step_since=now)

    def spent(self) -> dict[str, float]:
        """The account of this thread's time so far; see `logs.ledger`."""
        return self._ledger.spent()

    @property
    def made(self) -> int:
        """Steps made so far."""
        return self._activity.step

    def _account(self) -> None:
        if self._has_compiled:
            activity = self._activity
            self._ledger.change(_KINDS.get(activity.pause or activity.stage, ledger.TRAINING))

    def _add_duration(self, kind: str, seconds: float) -> None:
        self._durations[kind] = (*self._durations[kind][1 - WINDOW :], seconds)

    # --- The threads ----------------------------------------------------------------------------------------

    def _look_until_stopped(self) -> None:
        while not self._stopping.wait(self._interval):
            self._safely(self.look)

    def _beat_until_stopped(self) -> None:
        self._safely(self._heartbeats.begin)
        self._safely(self.exchange)
        while not self._stopping.wait(self._interval):
            self._safely(self.exchange)
        if self._run_failed:
            self._heartbeats.write(self._activity.step, STOPPED, 0.0, self.spent())
        else:
            self._heartbeats.remove()

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                line = f"{self._name}: {error!r}; the run goes on, but slow steps may go unreported"
                print(line, file=sys.stderr)

    def look(self) -> None:
        """Look once, and report what is slow."""
        activity, now = self._activity, self._clock()
        elapsed = activity.elapsed(now)
        if self._is_due(activity, now, elapsed - self._limit(activity)):
            self._reported, self._quiet_until = (activity.kind, activity.step), now + QUIET
            self._report(self._describe_slow(activity, elapsed, self._median(activity.kind)))

    def _limit(self, activity: Activity) -> float:
        """Seconds above which the step, or the pause, is slow."""
        median = self._median(activity.kind)
        return self._longest if median is None else min(max(SHORTEST, self._slow * median), self._longest)

    def _median(self, kind: str) -> float | None:
        """The median of the last durations of a kind; None if there are too few."""
        durations = self._durations[kind]
        return statistics.median(durations) if len(durations) >= ENOUGH[kind] else None

    def exchange(self) -> None:
        """Write this host's heartbeat if it is due; if held up, find out which other host causes it."""
        activity, now = self._activity, self._clock()
        # From half of the limit on, so that the report can name the host that holds this one up.
        held_up = activity.elapsed(now) > self._limit(activity) / 2
        if held_up != self._held_up:
            self._held_up, self._culprit, self._beat_due = held_up, "", now
            self._heartbeats.forget()
        if now < self._beat_due:
            return
        self._beat_due = now + (BEAT_HELD_UP if held_up else BEAT)
        self._heartbeats.write(activity.step, activity.stage, now - activity.since, self.spent())
        # A host that waits for its own input waits for no other host.
        waits = held_up and activity.stage != "input"
        self._culprit = self._heartbeats.held_up_by(activity.step, activity.stage) if waits else ""

    def _is_due(self, activity: Activity, now: float, over: float) -> bool:
        if over <= 0 or now < self._quiet_until or self._reported == (activity.kind, activity.step):
            return False
        may_learn_who = self._several and activity.stage != "input" and not self._culprit
        return not may_learn_who or over > PATIENCE

    def _describe_slow(self, activity: Activity, elapsed: float, median: float | None) -> str:
        line = f"step {activity.step + 1:,}"
        if activity.pause:
            line = f"{DOING[activity.pause]} after step {activity.step:,}"
        line += f" has taken {duration(elapsed)}"
        if median:
            line += f", {elapsed / median:,.0f} × the median"
        if activity.stage != activity.pause:
            line += f", {DOING[activity.stage]}"
        why = [self._advice(activity.stage)]
        if elapsed > self._longest:
            why.append(f"the run ends after {duration(2 * self._longest)} without a sign of life")
        return ": ".join(filter(None, (line, "; ".join(filter(None, why)))))

    def _advice(self, stage: str) -> str:
        if self._culprit or stage == "input" or not self._several:
            return self._culprit or _ADVICE.get(stage, "")
        if stage in _ADVICE:
            return f"{_ADVICE[stage]}, or another host is"
        return "another host is slow or stuck"

    def _describe(self) -> str:
        """A description for the deadline: what the main thread does, and for which host it may wait."""
        activity = self._activity
        idle = duration(self._clock() - activity.since)
        line = f"{self._name}: no progress for {idle}, {DOING[activity.stage]} after step {activity.step:,}"
        return "; ".join(filter(None, (line, self._culprit)))
