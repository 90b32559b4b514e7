"""What the main thread of a run does, noted by itself for others to look at.

It costs microseconds and takes no lock: one tuple is replaced. Starting, evaluating, saving and compiling are
pauses: they are timed by themselves, and their time does not count as the step's.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

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
"""The stages, as said in messages; `training` is what is none of the others."""

STEP = "step"
PAUSES = ("start", "checkpoint", "evaluation", "compilation")
KINDS = (STEP, *PAUSES)
REMEMBERED = 100
"""Durations kept of each kind."""


class Moment(NamedTuple):
    """What is being done; replaced as a whole, so that another thread never sees half of it.

    Attributes:
        step: steps made.
        stage: what is being done.
        since: when that was begun, or the step before was made: the last sign of life.
        begun: when the step in the making was begun, later by its pauses.
        pause: the pause that this is, or is within; empty for none.
        paused: when it was begun.
    """

    step: int
    stage: str
    since: float
    begun: float
    pause: str
    paused: float

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return self.pause or STEP

    def elapsed(self, now: float) -> float:
        """Seconds that this step, or this pause, has taken."""
        return now - (self.paused if self.pause else self.begun)


class Ended(NamedTuple):
    """A step or pause that took too long.

    Attributes:
        kind: one of `KINDS`.
        step: steps made before.
        seconds: that it took.
        spent: of a step, seconds by stage.
    """

    kind: str
    step: int
    seconds: float
    spent: dict[str, float]


class Activity:
    """Notes what one thread does. Other threads may read the attributes, and set `limits`.

    Attributes:
        moment: what it does now.
        taken: latest durations of each kind, in seconds; replaced, never changed.
        limits: seconds that each kind may take.
        too_long: what took longer, for another thread to take out.

    Args:
        step: steps made before.
        limit: the first limit for all kinds, in seconds.
        clock: seconds, never going back.
    """

    def __init__(self, step: int, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        now = clock()
        self._clock = clock
        self._spent: dict[str, float] = {}
        self.moment = Moment(step, "training", now, now, "", now)
        self.taken: dict[str, tuple[float, ...]] = dict.fromkeys(KINDS, ())
        self.limits = dict.fromkeys(KINDS, limit)
        self.too_long: collections.deque[Ended] = collections.deque()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note what is being done inside; stages may be nested, and the innermost counts.

        Args:
            name: a key of `DOING`.

        Raises:
            ValueError: there is no such stage.
        """
        if name not in DOING:
            raise ValueError(f"stage {name!r} is none of {', '.join(DOING)}")
        outer, now = self.moment, self._count_time()
        pauses = not outer.pause and name in PAUSES
        pause, paused = (name, now) if pauses else (outer.pause, outer.paused)
        self.moment = Moment(outer.step, name, now, outer.begun, pause, paused)
        try:
            yield
        finally:
            inner, now = self.moment, self._count_time()
            begun = inner.begun
            if pauses:
                begun += inner.elapsed(now)
                self._end(name, inner.step, inner.elapsed(now))
            self.moment = Moment(inner.step, outer.stage, now, begun, outer.pause, inner.paused)

    def step(self, made: int) -> None:
        """Note that a step has been made; not within a pause.

        Args:
            made: steps made so far.
        """
        before, now = self.moment, self._count_time()
        self._end(STEP, before.step, now - before.begun)
        self._spent.clear()
        self.moment = Moment(made, before.stage, now, now, "", now)

    def _count_time(self) -> float:
        """Add the time since the last change to what the step has spent on the stage; return the time."""
        moment, now = self.moment, self._clock()
        if not moment.pause:
            self._spent[moment.stage] = self._spent.get(moment.stage, 0.0) + now - moment.since
        return now

    def _end(self, kind: str, step: int, seconds: float) -> None:
        if seconds > self.limits[kind]:
            self.too_long.append(Ended(kind, step, seconds, dict(self._spent)))
        self.taken[kind] = (*self.taken[kind][1 - REMEMBERED :], seconds)
