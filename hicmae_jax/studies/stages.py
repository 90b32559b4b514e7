"""Runs a list of commands, each once: a record lists the finished ones, and the next call runs the rest.

Every command is printed before it runs, as one would type it.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from data_pipeline.common import atomic_files
from data_pipeline.common.errors import CommandError

RECORD = "stages.json"
"""File in the root directory that says which stages are done, and what each one printed."""

GRACE_SECONDS = 10.0
"""Time that a command gets to end after Ctrl-C, since it may be compiling, and again after SIGTERM."""


class StageError(CommandError):
    """A stage's command has failed; see `CommandError`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(f"{message}; run the same command again to go on", code)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: a few words about what the command does; different for each stage of a list.
        command: program and arguments.
        makes: files that the command refuses to overwrite. They are removed before it runs, since an
            interrupted attempt may have left a part of them.
    """

    name: str
    command: tuple[str, ...]
    makes: tuple[Path, ...] = ()

    def typed(self) -> str:
        """The command as one types it in a shell."""
        program = Path(self.command[0])
        if program.is_relative_to(Path.cwd()):
            program = program.relative_to(Path.cwd())
        return shlex.join([str(program), *self.command[1:]])

    def run(self) -> dict[str, Any]:
        """Run the command and print its output as it comes.

        Returns:
            `seconds` that it took, and what `execute` returns.

        Raises:
            StageError: the command has failed.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the command has ended too.
        """
        for path in self.makes:
            path.unlink(missing_ok=True)
        begin = time.monotonic()
        found = self.execute()
        return {"seconds": round(time.monotonic() - begin, 1), **found}

    def execute(self) -> dict[str, Any]:
        """Run the command to its end; a subclass may do something else with it.

        Returns:
            `printed`: the lines of the command's standard output.

        Raises:
            StageError: the command has failed.
        """
        lines = []
        with self.started(stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip("\n"))
            self.check_exit(process.wait())
        return {"printed": lines}

    @contextlib.contextmanager
    def started(self, stdout: int | None = None) -> Iterator[subprocess.Popen[str]]:
        """The running command, which ends at the latest when the block does.

        Args:
            stdout: `subprocess.PIPE` to read what the command prints; by default the terminal shows it.
        """
        # Unbuffered, so that lines appear as they are printed and none is lost if the process is killed.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            self.command, text=True, errors="backslashreplace", env=environment, stdout=stdout
        ) as process:

            def pass_on(signum: int, frame: FrameType | None) -> None:
                process.terminate()
                if callable(before):
                    before(signum, frame)
                raise KeyboardInterrupt

            before = signal.signal(signal.SIGTERM, pass_on)
            try:
                yield process
            finally:
                signal.signal(signal.SIGTERM, before)
                # A terminal sends Ctrl-C to the command too, so the first attempt only waits for its end.
                for stop in (lambda: None, process.terminate, process.kill):
                    stop()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(GRACE_SECONDS)
                        break

    def check_exit(self, code: int) -> None:
        """Check that the command has succeeded.

        Args:
            code: of the process: its exit code, or the negative number of the signal that ended it.

        Raises:
            StageError: any code but 0.
        """
        if code:
            reason = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
            raise StageError(
                f"{self.name}: the command ended with {reason}", code if code > 0 else 128 - code
            )


class Record:
    """Which stages are done and what they returned, kept in `stages.json` of a root directory.

    Args:
        root: a new or empty directory, or one that has a record.

    Raises:
        ValueError: the directory holds something else, or its record is damaged.
        OSError: the directory cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / RECORD
        self._stages: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            try:
                self._stages = json.loads(self._path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{self._path} is damaged ({error}): delete {root} to begin again") from None
            return
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ValueError(f"{root} is not empty and has no {RECORD}: give a new or empty directory")
        root.mkdir(parents=True, exist_ok=True)
        self._write()

    def holds(self, stage: Stage) -> bool:
        """Whether a stage is done.

        Raises:
            ValueError: a stage of that name was done by another command.
        """
        if stage.name not in self._stages:
            return False
        before = self._stages[stage.name]["command"]
        if before != stage.typed():
            raise ValueError(
                f"{self._path.parent} was begun with another command for {stage.name!r} ({before}): "
                f"delete it, or give another --root"
            )
        return True

    def add(self, stage: Stage, found: Mapping[str, Any]) -> None:
        """Record that a stage is done.

        Args:
            stage: the stage that is done.
            found: the results that its `run` returned.
        """
        self._stages[stage.name] = {"command": stage.typed(), **found}
        self._write()

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        """The results of the stage with this name, and its `command`."""
        return self._stages[name]

    def _write(self) -> None:
        atomic_files.replace_text(self._path, json.dumps(self._stages, indent=1) + "\n")


def run_all(stages: Sequence[Stage], record: Record) -> None:
    """Run the stages that are not done, in order, and record each.

    Args:
        stages: to be done.
        record: record of the directory in which they work.

    Raises:
        StageError: a command has failed; the stages before it are recorded.
        ValueError: a stage was done by another command.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    for number, stage in enumerate(stages, start=1):
        done = record.holds(stage)
        print(f"\n[{number}/{len(stages)}] {stage.name}{' (done before)' if done else ''}")
        print(f"  {stage.typed()}", flush=True)
        if not done:
            record.add(stage, stage.run())


def python_command(module: str, *arguments: str, **options: object) -> tuple[str, ...]:
    """The command that runs a Python module.

    Args:
        module: as after `python -m`.
        *arguments: as they are, before the options.
        **options: `name=value` becomes `--name=value`.
    """
    given = (f"--{name}={value}" for name, value in options.items())
    return (sys.executable, "-m", module, *arguments, *given)
