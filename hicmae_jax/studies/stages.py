"""Commands run one after the other, each once: what is done is kept in a file, and the rest can go on.

Every command is shown before it runs, as one would type it. One of them may be killed on purpose.
"""

import contextlib
import dataclasses
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hicmae_jax.checkpoints import manager as checkpoints
from hicmae_jax.logs import metrics

DONE = "stages.json"
"""Marks a directory as a demo's and says what has been done in it."""

PATIENCE = 10.0
"""Seconds that a command has to end after Ctrl-C, which may find it compiling, and again after SIGTERM."""

POLL = 0.1
"""Seconds from one look at a training run's log to the next."""


class StageError(Exception):
    """A command has failed; the message is one line.

    Attributes:
        code: exit code to end with.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: what it does, in a few words.
        command: program and arguments.
        makes: files that it refuses to overwrite; what an unfinished attempt left of them is removed.
        kill_in: kill it with SIGKILL at a step drawn from this range; empty to let it finish.
        run: directory of the run whose steps `kill_in` counts.
    """

    name: str
    command: tuple[str, ...]
    makes: tuple[Path, ...] = ()
    kill_in: range = range(0)
    run: Path = Path()

    def shown(self) -> str:
        """The command as one types it."""
        program = Path(self.command[0])
        if program.is_relative_to(Path.cwd()):
            program = program.relative_to(Path.cwd())
        return shlex.join([str(program), *self.command[1:]])


class Finished:
    """Which stages of a directory are done, and what they left to say; kept in its `DONE`.

    Args:
        root: new or empty, or what an earlier call has begun.

    Raises:
        ValueError: the directory holds something else, or its record is damaged.
        OSError: it cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / DONE
        self._stages: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            try:
                self._stages = json.loads(self._path.read_text())
            except ValueError as error:
                raise ValueError(f"{self._path} is damaged ({error}): delete {root} to begin again") from None
            return
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ValueError(f"{root} is not empty and not a demo's: give a new or empty directory")
        root.mkdir(parents=True, exist_ok=True)
        self._write()

    def holds(self, stage: Stage) -> bool:
        """Whether a stage is done.

        Raises:
            ValueError: it was done by another command.
        """
        if stage.name not in self._stages:
            return False
        before = self._stages[stage.name]["command"]
        if before != stage.shown():
            raise ValueError(
                f"{self._path.parent} was begun with another command for {stage.name!r} ({before}): "
                f"delete it, or give another --root"
            )
        return True

    def add(self, stage: Stage, found: Mapping[str, Any]) -> None:
        """Keep that a stage is done, with what was found out."""
        self._stages[stage.name] = {"command": stage.shown(), **found}
        self._write()

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        """What `run` found out of a stage, and its `command`."""
        return self._stages[name]

    def _write(self) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._stages, indent=1) + "\n")
        partial.replace(self._path)


def run(stage: Stage) -> dict[str, Any]:
    """Run a stage's command, its output shown as it comes.

    Returns:
        `seconds` it took; `printed`, the lines of its standard output, or `killed`, as `_kill` describes it.

    Raises:
        StageError: it failed, or could not be killed in time.
        KeyboardInterrupt: Ctrl-C; the command has ended too.
    """
    for path in stage.makes:
        path.unlink(missing_ok=True)
    begun = time.monotonic()
    found = _kill(stage) if stage.kill_in else {"printed": _finish(stage)}
    return {"seconds": round(time.monotonic() - begun, 1), **found}


def _finish(stage: Stage) -> list[str]:
    lines = []
    with _started(stage, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
        _check_exit(stage, process.wait())
    return lines


def _kill(stage: Stage) -> dict[str, Any]:
    """Kill a training run in the middle, as a preemption does.

    Returns:
        `killed`: the last `step` that it had logged, the step of its last whole `checkpoint`, and `loss`, for
        each logged step after that, which the run will have to make again.
    """
    made_before = _last_step(stage.run)
    possible = [step for step in stage.kill_in if step > made_before]
    if not possible:
        last = stage.kill_in[-1]
        message = f"{stage.name}: {stage.run} is past step {last}, the last to kill it at: delete it"
        raise StageError(message, 1)
    step = random.choice(possible)
    with _started(stage) as process:
        while process.poll() is None and _last_step(stage.run) < step:
            time.sleep(POLL)
        process.kill()
        code = process.wait()
        if code != -signal.SIGKILL:
            _check_exit(stage, code)
            raise StageError(f"{stage.name}: it ended before it could be killed at step {step}", 1)
    print(file=sys.stderr, flush=True)  # the progress bar had no time to end its line
    checkpoint = checkpoints.find_step(stage.run)
    logged = {line["step"]: line["loss/total"] for line in _lines(stage.run) if "loss/total" in line}
    print(f"killed      after step {max(logged)}; its last checkpoint is of step {checkpoint}", flush=True)
    again = {str(step): loss for step, loss in logged.items() if step > checkpoint}
    return {"killed": {"step": max(logged), "checkpoint": checkpoint, "loss": again}}


def _lines(run: Path) -> list[dict[str, Any]]:
    return metrics.read_metrics(run) if (run / metrics.FILE).exists() else []


def _last_step(run: Path) -> int:
    return max((line["step"] for line in _lines(run)), default=0)


def _check_exit(stage: Stage, code: int) -> None:
    if code:
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        raise StageError(f"{stage.name}: the command ended with {how}", code if code > 0 else 128 - code)


@contextlib.contextmanager
def _started(stage: Stage, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """The running command, which ends when the block does."""
    # Unbuffered, so that lines are seen as they come and none is lost with a killed process.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(stage.command, text=True, env=environment, **more) as process:

        def pass_on(signum: int, frame: object) -> None:
            process.terminate()
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, pass_on)
        try:
            yield process
        finally:
            signal.signal(signal.SIGTERM, before)
            # A terminal sends Ctrl-C to the command too: it is not sent again, but waited for.
            for hurry in (lambda: None, process.terminate, process.kill):
                hurry()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
                    break
