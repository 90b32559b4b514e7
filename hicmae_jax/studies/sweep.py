"""Runs the runs of a study that are not finished: one after another or side by side, each in its own process.

Each process gets its share of the processor's cores. On CPUs the rounding of sums depends on the number of
cores, so runs that are compared bit for bit need the same number of jobs. A run that fails is tried again,
and then given up; the others go on. A branch is started when its trunk is finished. To stop, processes are
asked to save and end, so the same command goes on later.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from hicmae_jax.logs.metrics import FILE as METRICS
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.studies import plan
from hicmae_jax.studies.attempts import BEGUN, DONE, FAILED, Attempt, Attempts, is_finished
from hicmae_jax.studies.plan import PlannedRun, Study
from hicmae_jax.studies.stages import python_command

POLL_SECONDS = 2.0
"""From one look at the runs to the next; each look reads their logs."""
PATIENCE_SECONDS = 120.0
"""Time that a run gets to save when the sweep is stopped."""


def command_of(root: Path, study: Study, run: PlannedRun) -> tuple[str, ...]:
    """The command that trains a run of the study in `root`."""
    settings = {**study.config, **run.settings}
    options = {f"config.{name}": value for name, value in settings.items() if name != "config"}
    branch = {}
    if run.trunk is not None:
        branch = {"branch_from": plan.directory_of(root, run.trunk), "branch_step": run.branch_step}
    return python_command(
        "launch.pretrain",
        f"--config={settings['config']}",
        **options,
        run=plan.directory_of(root, run.name),
        **branch,
    )


@dataclasses.dataclass
class _Process:
    """A run that is training."""

    run: PlannedRun
    process: subprocess.Popen[bytes]
    begun: float
    slot: int


class Sweep:
    """The runs of a study and the processes that train them.

    Args:
        root: directory of the study, with its plan.
        study: the plan.
        jobs: runs at a time.
        retries: how often a run that fails is tried again.
        work: name of a run → its work in FLOPs, for the progress bar.
        command: makes the command of a run.
    """

    def __init__(
        self,
        root: Path,
        study: Study,
        jobs: int,
        retries: int,
        work: Mapping[str, float],
        command: Callable[[Path, Study, PlannedRun], tuple[str, ...]] = command_of,
    ) -> None:
        self._root, self._study = root, study
        self._jobs, self._tries = jobs, retries + 1
        self._work, self._command = work, command
        self.attempts = Attempts(root)
        self._tried: dict[str, int] = {}
        self._running: list[_Process] = []

    def run(self) -> None:
        """Run everything that is not finished.

        Raises:
            KeyboardInterrupt: the sweep was stopped; the runs have saved.
        """
        with self._bar() as bar, self._stopping():
            while self._start() or self._running:
                time.sleep(POLL_SECONDS)
                self._collect()
                self._show(bar)

    def finished(self) -> list[str]:
        """Names of the runs that are finished."""
        return [run.name for run in self._study.runs if is_finished(plan.directory_of(self._root, run.name))]

    def problems(self) -> list[str]:
        """A line for each run that is not finished: why, and where to look."""
        finished, lines = self.finished(), []
        for run in self._study.runs:
            if run.name in finished:
                continue
            attempt = self.attempts[run.name]
            if attempt.state == FAILED:
                lines.append(f"{run.name} failed: {attempt.line or 'no message'}; see {self._log(run)}")
            elif not plan.ready(run, finished):
                lines.append(f"{run.name} waits for {run.trunk}")
        return lines

    # --- Processes ---

    def _start(self) -> bool:
        """Start runs in the free slots; returns whether any was started."""
        finished, busy = self.finished(), {one.run.name for one in self._running}
        waiting = [
            run
            for run in self._study.runs
            if run.name not in busy
            and run.name not in finished
            and self._tried.get(run.name, 0) < self._tries
            and plan.ready(run, finished)
        ]
        slots = [slot for slot in range(self._jobs) if slot not in {one.slot for one in self._running}]
        for run, slot in zip(waiting, slots, strict=False):
            self._launch(run, slot)
        return bool(waiting and slots)

    def _launch(self, run: PlannedRun, slot: int) -> None:
        log = self._log(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = self._command(self._root, self._study, run)
        with log.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        _pin(process.pid, slot, self._jobs)
        self._running.append(_Process(run, process, time.monotonic(), slot))
        before = self.attempts[run.name]
        self.attempts[run.name] = dataclasses.replace(before, state=BEGUN)
        tqdm.write(f"started     {run.name}")

    def _collect(self) -> None:
        """Record the runs that have ended."""
        for one in [one for one in self._running if one.process.poll() is not None]:
            self._running.remove(one)
            self._record(one)

    def _record(self, one: _Process, stopped: bool = False) -> None:
        name, code = one.run.name, one.process.wait()
        before = self.attempts[name]
        seconds = round(before.seconds + time.monotonic() - one.begun, 1)
        if code == 0 and is_finished(plan.directory_of(self._root, name)):
            self.attempts[name] = Attempt(DONE, before.attempts, 0, "", seconds)
            tqdm.write(f"finished    {name}")
            return
        if stopped:
            self.attempts[name] = dataclasses.replace(before, state=BEGUN, code=code, seconds=seconds)
            return
        self._tried[name] = self._tried.get(name, 0) + 1
        line = _last_line(self._log(one.run))
        self.attempts[name] = Attempt(FAILED, before.attempts + 1, code, line, seconds)
        again = "tried again" if self._tried[name] < self._tries else "given up"
        tqdm.write(f"failed      {name}, exit code {code}, {again}: {line}")

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Ask all processes to save and end when the block ends early."""
        try:
            yield
        finally:
            for one in self._running:
                one.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_SECONDS
            for one in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.process.wait(max(deadline - time.monotonic(), 0))
                if one.process.poll() is None:
                    one.process.kill()
                self._record(one, stopped=True)
            self._running.clear()

    def _log(self, run: PlannedRun) -> Path:
        return self._root / plan.LOGS / f"{run.name}.txt"

    # --- Progress ---

    def _bar(self) -> tqdm:
        total = sum(self._work.values())
        done = sum(self._work[name] for name in self.finished())
        return tqdm(total=total, initial=done, unit="FLOP", unit_scale=True, smoothing=0.05)

    def _show(self, bar: tqdm) -> None:
        finished = self.finished()
        done = sum(self._work[name] for name in finished)
        # A run is finished before its process has ended.
        running = [one.run for one in self._running if one.run.name not in finished]
        done += sum(self._work[run.name] * self._share(run) for run in running)
        bar.update(done - bar.n)
        failed = sum(self.attempts[run.name].state == FAILED for run in self._study.runs)
        runs = f"{len(finished)} of {len(self._study.runs)} finished, {len(self._running)} running"
        bar.set_postfix_str(f"{runs}, {failed} failed")

    def _share(self, run: PlannedRun) -> float:
        """Share of its steps that a running run has made, by the last line of its log."""
        directory = plan.directory_of(self._root, run.name)
        if not (directory / METRICS).exists():
            return 0.0
        first, last = run.branch_step or 0, run.steps
        with contextlib.suppress(ValueError, OSError):
            lines = read_metrics(directory)
            if lines and last > first:
                return min(max(lines[-1]["step"] - first, 0) / (last - first), 1.0)
        return 0.0


def _pin(pid: int, slot: int, jobs: int) -> None:
    """Give a process its share of the cores, before it has started its threads."""
    if jobs == 1 or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[slot % len(cores) :: jobs] if jobs <= len(cores) else [cores[slot % len(cores)]]
    with contextlib.suppress(OSError):  # the process may have ended already
        os.sched_setaffinity(pid, mine)


def _last_line(log: Path) -> str:
    """The last line that a run has printed."""
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
