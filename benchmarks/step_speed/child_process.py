"""A side in a process of its own, from the outside; `child` is the inside."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.step_speed.cases import Case

PATIENCE_SECONDS = 10


class SideError(Exception):
    """A side has ended with an error, which the message names."""


class Child:
    """A side in its process, see `child`.

    Args:
        name: of the side.
        case: what is measured.
        directory: for the weights, and for what the process writes to stderr.
    """

    def __init__(self, name: str, case: Case, directory: Path) -> None:
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
        """The value of the first request that has no answer yet.

        Raises:
            SideError: the side has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._stderr.seek(0)
            last = (self._stderr.read().strip() or "no message").splitlines()[-1]
            raise SideError(f"ended with exit code {self._process.wait()}: {last}")
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(answer["error"])
        return answer["value"]

    def end(self) -> None:
        """End the process: by the end of its stdin, so that what it has started ends too, or by force."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=PATIENCE_SECONDS)
        self._process.kill()
        self._process.communicate()
        self._stderr.close()
