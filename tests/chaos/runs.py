"""A run of `launch.pretrain` on one host or two: its commands, and what it leaves."""

import dataclasses
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from hicmae_jax.checkpoints import reader
from hicmae_jax.logs.metrics import FILE, read_metrics
from tests.support import shrunk_recipe
from tests.support.processes import start_module, wait_until
from tests.support.several_hosts import environment, free_port

SETTINGS = {"steps": 40, "warmup_steps": 4, "checkpoint__every": 10, "faults__minutes": 5}
# Each step takes several times as long, of which nothing is learned.
OF_TWO_HOSTS = {"steps": 20, "checkpoint__every": 5, "fsdp": 2}
# What only an accident would make it take.
SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a process has ended, and what it had said."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The last on stderr, of the run's own."""
        # After the end Python's tracker clears away what was in shared memory, and warns of it.
        own = [line for line in self.err.splitlines() if "resource_tracker" not in line]
        return next((line for line in reversed(own) if line.strip()), "")

    @property
    def first_step(self) -> int:
        """The step that it went on from."""
        found = re.search(r"^going on    from step (\d+) of", self.out, re.MULTILINE)
        return int(found[1]) if found else 0


class Run:
    """One for each directory.

    Attributes:
        data: as given.
        steps: in all.
        every: from one checkpoint to the next.

    Args:
        directory: of the run.
        data: prepared set.
        compiled: where runs share what they compile.
        hosts: processes, with one device each.
        program: module to start, with `options` of its own.
        settings: changes to the configuration.
    """

    def __init__(
        self,
        directory: Path,
        data: Path,
        compiled: Path,
        hosts: int = 1,
        program: str = "launch.pretrain",
        options: Sequence[str] = (),
        **settings: object,
    ) -> None:
        self.directory = directory
        self.data = data
        self._compiled = compiled
        self._hosts = hosts
        self._program = program
        self._options = options
        self._settings = SETTINGS | (OF_TWO_HOSTS if hosts == 2 else {}) | settings
        self.steps = self._settings["steps"]
        self.every = self._settings["checkpoint__every"]
        self._started: list[subprocess.Popen] = []

    def start(self, absent: Sequence[int] = (), **changes: object) -> list[subprocess.Popen]:
        """Give the command on all hosts but those absent, with changes to it on the last one."""
        port = free_port()
        given = environment(self._compiled, 1)
        started = []
        for host in range(self._hosts):
            settings = self._settings | (changes if host == self._hosts - 1 else {})
            command = [*shrunk_recipe.arguments(self.data, self.directory, **settings), *self._options]
            if self._hosts > 1:
                command += [f"--coordinator=localhost:{port}", f"--processes={self._hosts}"]
                command += [f"--process={host}"]
            if host not in absent:
                started.append(start_module(self._program, *command, env=given))
        self._started += started
        return started

    def finish(self, processes: Sequence[subprocess.Popen]) -> list[Ending]:
        """Wait until all have ended."""
        texts = [process.communicate(timeout=SECONDS) for process in processes]
        return [Ending(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]

    def wait_for(self, step: int, processes: Sequence[subprocess.Popen]) -> None:
        """Wait until the metrics of a step are written, 0 for none, while all of these live."""

        def reached() -> bool:
            ended = [process for process in processes if process.poll() is not None]
            told = [f"exit {ending.code}, {ending.line}" for ending in self.finish(ended)]
            assert not told, f"ended before step {step}: {told}"
            return self.logged() >= step

        wait_until(reached, SECONDS)

    def kill(self) -> None:
        """End what is left of all processes."""
        for process in self._started:
            process.kill()

    @property
    def lost_by_a_kill(self) -> int:
        """Most steps to make again: the last save may be in progress, which ends before the next begins."""
        return 2 * self.every

    # --- What it leaves -------------------------------------------------------------------------------------

    def logged(self) -> int:
        """Steps whose metrics are written."""
        file = self.directory / FILE
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def metrics(self) -> list[str]:
        """All lines but what they say of time; as text, in which NaN equals NaN."""
        lines = read_metrics(self.directory)
        return [json.dumps({k: v for k, v in line.items() if not k.startswith("time/")}) for line in lines]

    def saved(self) -> list[int]:
        """Steps of the checkpoints."""
        return sorted(reader.find_all(self.directory / "checkpoints"))

    def state(self) -> dict[str, np.ndarray]:
        """The whole state in the last checkpoint."""
        path = reader.find(self.directory / "checkpoints", None)
        shapes = reader.read_shapes(path)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        arguments = ocp.args.PyTreeRestore(item=shapes, restore_args=as_numpy)
        state = reader.read_state(path, ocp.PyTreeCheckpointHandler(), arguments)
        flat = ocp.tree.to_flat_dict(state, sep="/")
        return {name: np.asarray(leaf) for name, leaf in flat.items() if leaf is not None}

    def events(self, kind: str) -> list[dict]:
        """Those of a kind, without their times."""
        lines = map(json.loads, (self.directory / "events.jsonl").read_text().splitlines())
        return [{k: v for k, v in line.items() if k != "time"} for line in lines if line["event"] == kind]

    def files(self, inside: str = ".") -> dict[str, bytes]:
        """Name → content of all files."""
        root = self.directory / inside
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def differences(run: Run, other: Run) -> list[str]:
    """What of state and metrics is not the same, bit for bit."""
    found = []
    if run.saved()[-1] != other.saved()[-1]:
        found.append(f"the last checkpoints are of steps {run.saved()[-1]} and {other.saved()[-1]}")
    ours, theirs = run.state(), other.state()
    if ours.keys() != theirs.keys():
        found.append(f"one state lacks {sorted(ours.keys() ^ theirs.keys())}")
    unequal = [name for name in ours.keys() & theirs.keys() if not _same(ours[name], theirs[name])]
    if unequal:
        found.append(f"{len(unequal)} arrays of the state differ, such as {min(unequal)}")
    lines, expected = run.metrics(), other.metrics()
    if len(lines) != len(expected):
        found.append(f"there are {len(lines)} lines of metrics, not {len(expected)}")
    unequal_lines = [i for i, (line, right) in enumerate(zip(lines, expected), 1) if line != right]
    if unequal_lines:
        found.append(f"lines {unequal_lines[0]} to {unequal_lines[-1]} of the metrics differ")
    return found


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
