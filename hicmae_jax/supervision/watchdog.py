"""Watches a run's main thread: says what a slow step waits for, and ends a run that hangs.

A step is slow beyond `slow` × the median of the last hundred, and so is an evaluation, or the saving of a
checkpoint, by those before it. Before there is a median, and at most, anything is slow that takes half of the
time after which the run is ended: so that is announced.
"""

import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from hicmae_jax.supervision.activity import DOING, KINDS, PAUSES, STEP, Activity, Ended, Moment
from hicmae_jax.supervision.deadline import STACKS, Deadline
from hicmae_jax.supervision.heartbeats import STOPPED, Heartbeats, duration

KNOWN = {STEP: 20} | dict.fromkeys(PAUSES, 3)
"""Durations to know before a median is one to judge by; pauses are few and far between."""
SHORTEST = 1.0
"""Seconds that are never too long, whatever the median: the thread looks but once a second."""
QUIET = 60.0
"""Seconds after a report in which what else was slow is counted only, so that a slow disk fills no log."""
BEAT, BEAT_HELD_UP = 10.0, 2.0
"""Seconds from one heartbeat to the next, and while this host is, or may soon be, held up."""

_WHY = {
    "input": "clips are read slowly: see to the disk, then to config.data.threads and config.data.workers",
    "device": "a device is slow or stuck",
    "checkpoint": "the disk of the run is slow or stuck",
}


class Watchdog:
    """Reports slow steps, with what they wait for; ends the process when nothing moves any more.

    `stage` and `step` are for one thread, the main one. With several processes each keeps a file for the
    others (see `heartbeats`), so that the one that holds up the rest is named. No error in here stops a run.

    Args:
        report: takes a line; called from another thread.
        directory: of the run, the same for all its processes; exists.
        process: number of this process.
        processes: how many take part.
        slow: times the median that a step may take unreported.
        minutes: without a sign of life, after which the process ends with exit code 70.
        step: steps made before.
        clock: seconds, never going back.
        interval: seconds from one look to the next.
    """

    def __init__(
        self,
        report: Callable[[str], None],
        directory: Path,
        process: int = 0,
        processes: int = 1,
        *,
        slow: float = 10.0,
        minutes: float = 30.0,
        step: int = 0,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 1.0,
    ) -> None:
        directory = Path(directory)
        self._report = report
        self._several = processes > 1
        self._who = f"watchdog of host {process}" if self._several else "watchdog"
        self._slow = slow
        self._longest = 60 * minutes / 2
        self._clock = clock
        self._interval = interval

        self._activity = Activity(step, self._longest, clock)
        self._hosts = Heartbeats(directory, process, processes, clock)
        self._deadline = Deadline(
            60 * minutes,
            heard=lambda: self._activity.moment.since,
            describe=self._describe,
            stacks=directory / STACKS.format(process=process),
            clock=clock,
            interval=interval,
        )

        self._medians: dict[str, float] = {}
        self._held_up = False
        self._named = ""
        self._beat_due = self._quiet_until = clock()
        self._told: tuple[str, int] | None = None
        self._told_named = False
        self._unreported = 0
        self._has_failed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    # --- The main thread ------------------------------------------------------------------------------------

    def __enter__(self) -> "Watchdog":
        self._deadline.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(5.0)  # or never: the disk that it writes to may hang
        if not self._thread.is_alive():
            if kind is None:
                self._hosts.remove()
            else:
                self._hosts.write(self._activity.moment.step, STOPPED, 0.0)
        self._deadline.stop()

    def stage(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Note what is being done inside; stages may be nested, and the innermost counts.

        Args:
            name: a key of `activity.DOING`.

        Raises:
            ValueError: there is no such stage.
        """
        return self._activity.stage(name)

    def step(self, made: int) -> None:
        """Note that a step has been made; not within a pause.

        Args:
            made: steps made so far.
        """
        self._activity.step(made)

    # --- The thread that looks ------------------------------------------------------------------------------

    def _run(self) -> None:
        self._safely(self._hosts.begin)
        while not self._stopping.wait(self._interval):
            self._safely(self.look)

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                told = f"{self._who}: {error!r}; the run goes on, but slow steps may go unreported"
                print(told, file=sys.stderr)

    def look(self) -> None:
        """Look once: report what was slow and what is, and let the other hosts know where this one is."""
        while self._activity.too_long:
            self._report_ended(self._activity.too_long.popleft())
        for kind, taken in self._activity.taken.items():
            if len(taken) >= KNOWN[kind]:
                self._medians[kind] = statistics.median(taken)
        limits = self._activity.limits = {kind: self._limit(kind) for kind in KINDS}
        moment = self._activity.moment
        now = self._clock()
        # From half of it on, so that who holds up this host is known by the time that it is told.
        self._exchange(moment, now, held_up=moment.elapsed(now) > limits[moment.kind] / 2)
        if moment.elapsed(now) > limits[moment.kind]:
            self._report_waiting(moment, now)

    def _limit(self, kind: str) -> float:
        if kind not in self._medians:
            return self._longest
        return min(max(SHORTEST, self._slow * self._medians[kind]), self._longest)

    def _exchange(self, moment: Moment, now: float, held_up: bool) -> None:
        if held_up != self._held_up:
            self._held_up, self._named, self._beat_due = held_up, "", now
            self._hosts.forget()
        if now < self._beat_due:
            return
        self._beat_due = now + (BEAT_HELD_UP if held_up else BEAT)
        self._hosts.write(moment.step, moment.stage, now - moment.since)
        # Who waits for its own input waits for nobody else.
        waits = held_up and moment.stage != "input"
        self._named = self._hosts.held_up_by(moment.step, moment.stage) if waits else ""

    def _report_waiting(self, moment: Moment, now: float) -> None:
        """Tell it once, and once more when it turns out who it is."""
        activity, elapsed = (moment.kind, moment.step), moment.elapsed(now)
        if activity == self._told:
            if self._told_named or not self._named:
                return
        elif now < self._quiet_until:
            return
        self._told, self._told_named = activity, bool(self._named)
        doing = "" if moment.stage == moment.pause else f", {DOING[moment.stage]}"
        end = f"the run ends after {duration(2 * self._longest)} without a sign of life"
        why = filter(None, (self._why(moment.stage), end if elapsed > self._longest else ""))
        line = f"{_name(*activity)} has taken {self._compared(moment.kind, elapsed)}{doing}"
        self._report(": ".join(filter(None, (line, "; ".join(why)))))

    def _why(self, stage: str) -> str:
        if self._named or stage == "input" or not self._several:
            return self._named or _WHY.get(stage, "")
        return f"{_WHY[stage]}, or another host is" if stage in _WHY else "another host may be slow or stuck"

    def _report_ended(self, ended: Ended) -> None:
        now = self._clock()
        if self._told != (ended.kind, ended.step) and now < self._quiet_until:
            self._unreported += 1
            return
        line = f"{_name(ended.kind, ended.step)} took {self._compared(ended.kind, ended.seconds)}"
        if ended.kind == STEP:
            stage = max(ended.spent, key=ended.spent.__getitem__)
            line += f", {duration(ended.spent[stage])} of it {DOING[stage]}"
        if self._unreported:
            line += f"; {self._unreported:,} more were slow since the last report"
        self._quiet_until, self._unreported = now + QUIET, 0
        self._report(line)

    def _compared(self, kind: str, seconds: float) -> str:
        median = self._medians.get(kind)
        return f"{duration(seconds)}, {seconds / median:,.0f} × the median" if median else duration(seconds)

    def _describe(self) -> str:
        moment = self._activity.moment
        idle = duration(self._clock() - moment.since)
        named = f"; {self._named}" if self._named else ""
        return f"{self._who}: no progress for {idle}, {DOING[moment.stage]} after step {moment.step:,}{named}"


def _name(kind: str, step: int) -> str:
    return f"step {step + 1:,}" if kind == STEP else f"{DOING[kind]} after step {step:,}"
