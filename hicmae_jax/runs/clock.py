"""Rates of training and shares of waiting, measured from one line of the log to the next."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

import jax

from hicmae_jax.training.chips import peak_flops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """The work of one step, from which rates are computed.

    Attributes:
        clips: clips in a step, over all hosts.
        flops: floating-point operations of the model for one clip, forward and backward, without what an
            implementation computes twice.
    """

    clips: int
    flops: float


class Clock:
    """Measures the time of training; the time of evaluating and saving does not count.

    Args:
        work: the work of one step.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        devices = jax.devices()
        peak = peak_flops(devices[0])
        self._peak = None if peak is None else peak * len(devices)
        self._waited = {"input": 0.0, "device": 0.0}
        self._begun = time.perf_counter()
        self._last_made: int | None = None
        self._trained = self._evaluated = 0.0

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Count the time inside as waiting.

        Args:
            what: what the host waits for, `input` or `device`.
        """
        begun = time.perf_counter()
        yield
        self._waited[what] += time.perf_counter() - begun

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside."""
        begun = time.perf_counter()
        yield
        self._begun += time.perf_counter() - begun

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[dict[str, float]]:
        """Count the time inside as that of an evaluation, not of training.

        Yields:
            A dictionary that has `time/evaluation_seconds` at the end.
        """
        begun, taken = time.perf_counter(), dict[str, float]()
        with self.paused():
            yield taken
        taken["time/evaluation_seconds"] = time.perf_counter() - begun
        self._evaluated += taken["time/evaluation_seconds"]

    def lap(self, made: int) -> dict[str, float]:
        """Rates since the last call.

        Args:
            made: updates made so far.

        Returns:
            `time/…` → rate or share. Empty at the first call, because that time includes the compilation.
            `time/evaluation_share` is the share of all evaluations until now, with their compilation, in
            their time and that of training since the first call.
        """
        now = time.perf_counter()
        seconds, waited = now - self._begun, dict(self._waited)
        self._begun, self._waited = now, dict.fromkeys(self._waited, 0.0)
        last, self._last_made = self._last_made, made
        if last is None:
            return {}
        self._trained += seconds
        clips_per_second = (made - last) * self._work.clips / seconds
        rates = {
            "time/step_seconds": seconds / (made - last),
            "time/clips_per_second": clips_per_second,
            "time/model_flops_per_second": clips_per_second * self._work.flops,
            **{f"time/{what}_wait_share": wait / seconds for what, wait in waited.items()},
        }
        if self._evaluated:
            rates["time/evaluation_share"] = self._evaluated / (self._evaluated + self._trained)
        if self._peak is not None:
            rates["time/mfu"] = rates["time/model_flops_per_second"] / self._peak
        return rates
