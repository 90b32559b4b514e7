"""A run of `launch.pretrain` on one host or two: its commands, its processes and its files."""

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from data_pipeline.common import anywhere
from data_pipeline.common.buckets import Bucket, is_bucket
from hicmae_jax.checkpoints import listing, reader
from hicmae_jax.checkpoints.fetched import on_disk
from hicmae_jax.logs.metrics import FILE, read_metrics
from tests.support import shrunk_recipe
from tests.support.instrumented_pretrain import pause_file
from tests.support.processes import HANG, start_module, wait_until
from tests.support.several_hosts import environment, free_port

SETTINGS = {"steps": 40, "warmup_steps": 4, "checkpoint__every": 10, "faults__minutes": 5}
# Fewer, for each step takes several times as long.
OF_TWO_HOSTS = {"steps": 20, "checkpoint__every": 5, "fsdp": 2}


@dataclasses.dataclass(frozen=True)
class Ending:
    """The exit code of a process, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The last line that the run itself wrote to stderr."""
        # After its end Python's resource tracker removes what is left in shared memory, with a warning.
        own = [line for line in self.err.splitlines() if "resource_tracker" not in line]
        return next((line for line in reversed(own) if line.strip()), "")

    @property
    def first_step(self) -> int:
        """The step that it continued from."""
        found = re.search(r"^going on    from step (\d+) of", self.out, re.MULTILINE)
        return int(found[1]) if found else 0


class Run:
    """A run's directory, and the commands that begin or continue the run there.

    Attributes:
        directory: of the run.
        data: its prepared set.
        steps: of the whole run.
        reached: step that it has made at least; its log in a bucket may say less.
        every: steps from one checkpoint to the next.

    Args:
        directory: of the run.
        data: prepared set.
        compiled: where runs share what they compile.
        hosts: number of processes, with one device each.
        poison: steps, counted from 0, whose video is NaN.
        options: further flags of the command.
        settings: changes to the configuration.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        data: Path,
        compiled: Path,
        hosts: int = 1,
        poison: Sequence[int] = (),
        options: Sequence[str] = (),
        **settings: object,
    ) -> None:
        self.directory = epath.Path(directory)
        self.reached = 0
        self.data = data
        self._compiled = compiled
        self._hosts = hosts
        self._options = [*options, *([f"--poison={','.join(map(str, poison))}"] if poison else [])]
        self._instrumented = bool(poison) or any(option.startswith("--patience") for option in options)
        self._settings = SETTINGS | (OF_TWO_HOSTS if hosts == 2 else {}) | settings
        self.steps = self._settings["steps"]
        self.every = self._settings["checkpoint__every"]
        self._started: list[subprocess.Popen] = []

    def start(
        self, absent: Sequence[int] = (), pause_after: int | None = None, **changes: object
    ) -> list[subprocess.Popen]:
        """Give the command on the hosts.

        Args:
            absent: numbers of the hosts on which it is not given.
            pause_after: step after which the run pauses, until `resume` or `finish` is called.
            changes: to the configuration, on the last host only.
        """
        port = free_port()
        given = environment(self._compiled, 1)
        pause = [] if pause_after is None else [f"--pause_after={pause_after}"]
        instrumented = self._instrumented or pause
        program = "tests.support.instrumented_pretrain" if instrumented else "launch.pretrain"
        started = []
        for host in range(self._hosts):
            settings = self._settings | (changes if host == self._hosts - 1 else {})
            command = [*shrunk_recipe.arguments(self.data, self.directory, **settings)]
            command += [*self._options, *pause]
            if self._hosts > 1:
                command += [f"--coordinator=localhost:{port}", f"--processes={self._hosts}"]
                command += [f"--process={host}"]
            if host not in absent:
                started.append(start_module(program, *command, env=given))
        self._started += started
        return started

    def finish(self, processes: Sequence[subprocess.Popen]) -> list[Ending]:
        """Let them continue if they pause, and wait until all have ended."""
        self.resume()
        texts = [process.communicate(timeout=HANG) for process in processes]
        return [Ending(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]

    def wait_for_step(self, step: int, processes: Sequence[subprocess.Popen]) -> None:
        """Wait until the metrics of a step are written; all these processes must live until then."""
        self._wait(lambda: self.logged() >= step, processes)

    def wait_for_pause(self, processes: Sequence[subprocess.Popen]) -> None:
        """Wait until the run pauses; all these processes must live until then."""
        self._wait(pause_file(self.directory).exists, processes)

    def resume(self) -> None:
        """Let a run that pauses continue."""
        pause_file(self.directory).unlink(missing_ok=True)

    def _wait(self, reached: Callable[[], bool], processes: Sequence[subprocess.Popen]) -> None:
        def is_reached() -> bool:
            ended = [process for process in processes if process.poll() is not None]
            endings = [f"exit {ending.code}, {ending.line}" for ending in self.finish(ended)] if ended else []
            assert not endings, f"ended too early: {endings}"
            return reached()

        wait_until(is_reached)

    def kill(self) -> None:
        """Kill all processes of this run that are left."""
        for process in self._started:
            process.kill()

    @property
    def lost_by_a_kill(self) -> int:
        """Most steps to repeat after a kill. A save in progress is lost; it ends before the next one."""
        return 2 * self.every

    def copy_from(self, other: "Run") -> None:
        """Take the files of a run on a disk."""
        root = Path(other.directory)
        if is_bucket(self.directory):
            files = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
            Bucket(self.directory).upload(files)
        else:
            shutil.copytree(root, self.directory)

    # --- Its files ------------------------------------------------------------------------------------------

    def logged(self) -> int:
        """Number of lines in the log of metrics."""
        try:
            return anywhere.read(self.directory / FILE).count(b"\n")
        except FileNotFoundError:
            return 0

    def metrics(self) -> list[str]:
        """The lines of the log without their times; as text, in which NaN equals NaN."""
        lines = read_metrics(self.directory)
        return [json.dumps({k: v for k, v in line.items() if not k.startswith("time/")}) for line in lines]

    def saved(self) -> list[int]:
        """The steps of its checkpoints."""
        return sorted(listing.find_all(self.directory / "checkpoints"))

    def state(self) -> dict[str, np.ndarray]:
        """The whole state in the last checkpoint."""
        with on_disk(reader.find(self.directory / "checkpoints", None)) as path:
            shapes = reader.read_shapes(path)
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            arguments = ocp.args.PyTreeRestore(item=shapes, restore_args=as_numpy)
            state = reader.read_state(path, ocp.PyTreeCheckpointHandler(), arguments)
        flat = ocp.tree.to_flat_dict(state, sep="/")
        return {name: np.asarray(leaf) for name, leaf in flat.items() if leaf is not None}

    def events(self, kind: str) -> list[dict]:
        """The events of a kind, without their times."""
        lines = map(json.loads, (self.directory / "events.jsonl").read_text().splitlines())
        return [{k: v for k, v in line.items() if k != "time"} for line in lines if line["event"] == kind]

    def files(self, inside: str = ".") -> dict[str, bytes]:
        """The content of all files by their name."""
        if is_bucket(self.directory):
            bucket = Bucket(self.directory if inside == "." else self.directory / inside)
            return {name: bucket.read(name) for name in bucket.list()}
        root = Path(self.directory) / inside
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def differences(run: Run, other: Run) -> list[str]:
    """Describe each part of state and metrics that is not the same in both runs, bit for bit."""
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
