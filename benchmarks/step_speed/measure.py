"""Measures cases: all sides first make the same updates, then they take turns at windows of updates."""

import contextlib
import dataclasses
import math
import statistics
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.step_speed.cases import MASKS, Case
from benchmarks.step_speed.child_process import Child, SideError
from hicmae_jax.model.flops import flops

CHECKED_STEPS = 2  # the second loss depends on the first update
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-2}
"""By dtype, the largest difference of losses and gradient norms, as a share of the value."""
MATMUL_SIDES = {"cpu": 2048, "gpu": 8192}
_COMPILING = threading.Lock()
"""XLA times kernels on the GPU while it compiles, so that only one JAX side does at a time."""


Results = Mapping[str, Mapping[str, Any]]
"""Side → its figures, or its `error`."""


class DisagreementError(ValueError):
    """Two sides compute different losses or gradients, or on different devices."""


def check_agreement(results: Results, dtype: str) -> None:
    """Compare the losses and gradient norms of all sides that take the same clips with those of the first.

    Args:
        results: side → figures, of which `checked` has the values of each step.
        dtype: of the computation.

    Raises:
        DisagreementError: names the first value that differs by more than `TOLERANCES`.
    """
    first, *others = [name for name in results if name != "jax-clips" and "checked" in results[name]] or [""]
    for name in others:
        steps = zip(results[first]["checked"], results[name]["checked"], strict=True)
        for step, (wanted, own) in enumerate(steps, 1):
            for term, value in wanted.items():
                if not math.isclose(own[term], value, rel_tol=TOLERANCES[dtype]):
                    raise DisagreementError(
                        f"step {step}: {term} is {own[term]:.7g} in {name} and {value:.7g} in {first}, "
                        f"which differ by more than {TOLERANCES[dtype]:g} of the value"
                    )


def check_devices(results: Results) -> None:
    """Refuse to compare a GPU with a CPU.

    Args:
        results: side → figures, of which `about` has the platform.

    Raises:
        DisagreementError: names the platforms.
    """
    platforms = {name: result["about"]["platform"] for name, result in results.items() if "about" in result}
    if len(set(platforms.values())) > 1:
        named = ", ".join(f"{name} computes on {platform}" for name, platform in platforms.items())
        raise DisagreementError(f"{named}: install JAX and PyTorch for the same devices")


def measure(cases: Sequence[Case], windows: int, seconds: float) -> list[dict[str, Any]]:
    """Measure cases, which are prepared at the same time, to save time, and timed one after the other.

    Args:
        cases: what is measured.
        windows: number of windows of each side.
        seconds: least length of a window.

    Returns:
        For each case its fields, and the figures of its sides as `results`, in types of JSON.

    Raises:
        DisagreementError: sides compute different losses or gradients.
    """
    comparisons = [Comparison(case) for case in cases]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(cases)) as pool:
        for comparison in comparisons:
            stack.callback(comparison.close)
        list(pool.map(Comparison.start, comparisons))
        for comparison in comparisons:
            comparison.take_turns(windows, seconds)
    return [comparison.figures() for comparison in comparisons]


class Comparison:
    """The processes of a case: of all its sides, or of one after the other if they are measured apart.

    Args:
        case: what is measured.

    Attributes:
        results: side → its figures, or its `error`.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.results: dict[str, dict[str, Any]] = {}
        self._children: dict[str, Child] = {}
        self._directory = tempfile.TemporaryDirectory()

    def start(self) -> None:
        """Start the sides that come next, and let each make the updates that are compared."""
        first, waiting = self.case.sides[0], [name for name in self.case.sides if name not in self.results]
        names = waiting[:1] if self.case.apart else waiting
        for name in names:
            self.results[name] = {}
            self._children[name] = Child(name, self.case, Path(self._directory.name))
            self._send(name, "about")
            if name == first:  # the others read the weights that it writes
                self._answer(name, "about")
        ours = [name for name in names if name.startswith("jax")]
        others = [name for name in names if name not in ours]
        for name in others:
            self._send(name, "check", CHECKED_STEPS)
        for name in ours:
            if name != first:
                self._answer(name, "about")
            with _COMPILING:
                self._send(name, "check", CHECKED_STEPS)
                self._answer(name, "checked")
        for name in others:
            self._answer(name, "about")
            self._answer(name, "checked")

    def take_turns(self, windows: int, seconds: float) -> None:
        """Time windows of updates, in turns, of all sides that are started; then start and time the rest.

        Args:
            windows: number of windows of each side.
            seconds: least length of a window.

        Raises:
            DisagreementError: sides compute different losses or gradients, or on different devices.
        """
        check_devices(self.results)
        check_agreement(self.results, self.case.dtype)
        names = list(self._children)
        for name in names:
            for _ in range(2):  # the first one warms up
                self._send(name, "window", 1)
                self._answer(name, "seconds_an_update")
        for _ in range(windows):
            for name in list(self._children):
                self._time_window(name, seconds)
        for name in names:
            self._send(name, "peak_bytes")
            self._answer(name, "peak_bytes")
            if name in self._children:
                platform = self.results[name]["about"]["platform"]
                self._send(name, "matmul_rate", MATMUL_SIDES[platform])
                self._answer(name, "matmul_flops")
        self._end()
        if len(self.results) < len(self.case.sides):
            self.start()
            self.take_turns(windows, seconds)

    def _time_window(self, name: str, seconds: float) -> None:
        result = self.results[name]
        updates = math.ceil(seconds / result["seconds_an_update"])
        self._send(name, "window", updates)
        if self._answer(name, "last_window"):
            rate = updates * self.case.batch / result.pop("last_window")
            result.setdefault("clips_per_second_each", []).append(rate)

    def _send(self, name: str, method: str, *arguments: Any) -> None:
        """Ask a side, unless it has failed."""
        if name in self._children:
            self._children[name].send(method, *arguments)

    def _answer(self, name: str, figure: str) -> bool:
        """Note a side's answer as a figure, or its error; returns whether there was an answer."""
        if name not in self._children:
            return False
        try:
            self.results[name][figure] = self._children[name].answer()
        except SideError as error:
            self.results[name]["error"] = str(error)
            self._children.pop(name).end()
            return False
        return True

    def _end(self) -> None:
        while self._children:
            self._children.popitem()[1].end()

    def close(self) -> None:
        """End the processes and remove the weights."""
        self._end()
        self._directory.cleanup()

    def figures(self) -> dict[str, Any]:
        """The case and all figures, with medians and utilisation.

        The measured matmul rate is that of the side whose products are fastest.
        """
        needed = sum(flops(self.case.model, MASKS).training.values())
        timed = [result for result in self.results.values() if "matmul_flops" in result]
        measured = max((result["matmul_flops"] for result in timed), default=None)
        datasheet = next(
            (r["about"]["datasheet_flops"] for r in timed if "datasheet_flops" in r["about"]), None
        )
        for result in timed:
            rate = result["clips_per_second"] = statistics.median(result["clips_per_second_each"])
            result["share_of_matmul"] = rate * needed / measured
            result["share_of_datasheet"] = rate * needed / datasheet if datasheet else None
        return {
            **dataclasses.asdict(self.case),
            "flops_per_clip": needed,
            "matmul_flops": measured,
            "datasheet_flops": datasheet,
            "results": self.results,
        }
