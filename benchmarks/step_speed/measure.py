"""Runs the sides of a case: the same losses first, then windows of updates in turns."""

import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.step_speed.cases import MASKS, Case
from hicmae_jax.model.flops import flops

CHECKED_STEPS = 2  # the second loss depends on the first update
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}
"""By dtype, the largest difference of losses and gradient norms, as a share of JAX's."""
MATMUL_SIDES = {"cpu": 2048, "gpu": 8192}


class Failed(Exception):  # noqa: N818
    """A side has ended with an error, which the message names."""


class Disagreement(ValueError):  # noqa: N818
    """Two sides compute different losses or gradients."""


class Child:
    """A side in its process, see `child`.

    Args:
        name: of the side.
        case: what is measured.
        directory: for the weights, and for what the process writes to stderr.
    """

    def __init__(self, name: str, case: Case, directory: Path) -> None:
        self.name = name
        words = (name, json.dumps(dataclasses.asdict(case)), str(directory / "weights.npz"))
        # JAX would take most of the device's memory at once. In PyTorch's processes it only draws masks.
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if not name.startswith("jax"):
            environment["JAX_PLATFORMS"] = "cpu"
        self._stderr = (directory / f"{name}.stderr").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.step_speed.child", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            text=True,
        )

    def send(self, method: str, *arguments: Any) -> None:
        """Ask for a method; `answer` waits for its value."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` tells why
            print(json.dumps([method, *arguments]), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """The value of the last request, or at first what `about` says.

        Raises:
            Failed: the side has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._stderr.seek(0)
            last = (self._stderr.read().strip() or "no message").splitlines()[-1]
            raise Failed(f"ended with exit code {self._process.wait()}: {last}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["value"]

    def ask(self, method: str, *arguments: Any) -> Any:
        """Ask, and wait for the value."""
        self.send(method, *arguments)
        return self.answer()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._stderr.close()


def check_agreement(results: Mapping[str, Mapping[str, Any]], dtype: str) -> None:
    """Compare the losses and gradient norms of all sides that take the same clips with those of the first.

    Args:
        results: side → figures, of which `checked` has the values of each step.
        dtype: of the computation.

    Raises:
        Disagreement: the first value that differs by more than `TOLERANCES`.
    """
    comparable = [name for name in results if name != "jax-clips" and "checked" in results[name]]
    for name in comparable[1:]:
        steps = zip(results[comparable[0]]["checked"], results[name]["checked"], strict=True)
        for step, (theirs, own) in enumerate(steps, 1):
            for term, value in theirs.items():
                if not math.isclose(own[term], value, rel_tol=TOLERANCES[dtype]):
                    raise Disagreement(
                        f"step {step}: {term} is {own[term]:.7g} in {name} and {value:.7g} in "
                        f"{comparable[0]}, more than {TOLERANCES[dtype]:g} of it apart: nothing was timed"
                    )


def measure(case: Case, windows: int, seconds: float) -> dict[str, Any]:
    """Measure one case.

    Args:
        case: what is measured.
        windows: number of windows of each side.
        seconds: least length of a window.

    Returns:
        The case, and for each side its figures or its `error`, in types of JSON.

    Raises:
        Disagreement: the sides compute different losses or gradients.
    """
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for sides in [[side] for side in case.sides] if case.apart else [list(case.sides)]:
            children: dict[str, Child] = {}
            try:
                _start(sides, case, Path(name), children, results)
                check_agreement(results, case.dtype)
                _take_turns(children, case, windows, seconds, results)
            finally:
                for child in children.values():
                    child.end()
    needed = sum(flops(case.model, MASKS).training.values())
    return {**dataclasses.asdict(case), "flops_per_clip": needed, "results": results}


Children = dict[str, Child]
Results = dict[str, dict[str, Any]]


def _all(children: Children, results: Results, method: str, *arguments: Any) -> dict[str, Any]:
    """Values of a method of all children, which work at the same time. Those that fail are removed."""
    for child in children.values():
        child.send(method, *arguments)
    values = {}
    for name in list(children):
        with _noting(name, children, results):
            values[name] = children[name].answer()
    return values


@contextlib.contextmanager
def _noting(name: str, children: Children, results: Results) -> Iterator[None]:
    """Note the error of a side and remove it."""
    try:
        yield
    except Failed as error:
        results[name]["error"] = str(error)
        children.pop(name).end()


def _start(sides: Sequence[str], case: Case, directory: Path, children: Children, results: Results) -> None:
    """Start the sides, and let each make the updates to be compared."""
    for name in sides:
        results[name] = {}
        children[name] = Child(name, case, directory)
        if name == case.sides[0]:  # the others read its weights
            with _noting(name, children, results):
                results[name] |= children[name].answer()
    for name in [name for name in children if name != case.sides[0]]:
        with _noting(name, children, results):
            results[name] |= children[name].answer()
    for _ in range(CHECKED_STEPS):
        for name, value in _all(children, results, "checked_step").items():
            results[name].setdefault("checked", []).append(value)


def _take_turns(children: Children, case: Case, windows: int, seconds: float, results: Results) -> None:
    """Time windows of updates in turns, then the rest of the figures."""
    steps = {}
    for name in list(children):
        with _noting(name, children, results):
            children[name].ask("window", 1)
            steps[name] = math.ceil(seconds / children[name].ask("window", 1))
            results[name] |= {"steps_per_window": steps[name], "clips_per_second_each": []}
    for _ in range(windows):
        for name in list(children):
            with _noting(name, children, results):
                clips = steps[name] * case.batch
                rate = clips / children[name].ask("window", steps[name])
                results[name]["clips_per_second_each"].append(rate)
    for name in list(children):
        with _noting(name, children, results):
            result = results[name]
            result["clips_per_second"] = statistics.median(result["clips_per_second_each"])
            result["peak_bytes"] = children[name].ask("peak_bytes")
            result["matmul_flops"] = children[name].ask("matmul_rate", MATMUL_SIDES[result["platform"]])
