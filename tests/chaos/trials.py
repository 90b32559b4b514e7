"""A trial: one fault tried once, with what was expected of it and what happened."""

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from etils import epath

from tests.chaos.runs import Ending, Run, differences
from tests.support import shrunk_recipe
from tests.support.bucket_server import BucketServer


class Stage:
    """What trials share: data, compiled programs, and undisturbed runs to compare with.

    Attributes:
        poison: steps, counted from 0, whose video is NaN in a `poisoned` run: one alone and three in a row.
        compiled: directory for compiled programs.
        pauses: as given.

    Args:
        root: an empty directory.
        seed: of the random draws that trials share.
        pauses: disturb a run while it pauses after a step, so that a trial is the same each time. Otherwise
            the run is disturbed while it goes on, at the moment when the log is seen to have the step.
        compiled: directory for compiled programs; one in `root` if None.
        bucket: a server of buckets, in one of which all runs lie but the undisturbed ones; None for the disk.
    """

    def __init__(
        self,
        root: Path,
        seed: int,
        pauses: bool,
        compiled: Path | None = None,
        bucket: BucketServer | None = None,
    ) -> None:
        self.root = root
        self.bucket = bucket
        self.compiled = compiled or root / "compiled"
        self.pauses = pauses
        draw = random.Random(seed)
        once, row = draw.randrange(2, 10), draw.randrange(12, 30)
        self.poison = [once, row, row + 1, row + 2]
        self._seed = seed
        self._data: dict[str, Path] = {}
        self._undisturbed: dict[str, Run] = {}

    def run(self, directory: epath.PathLike, kind: str = "plain", **settings: object) -> Run:
        """A run of a kind: `plain`, `two hosts`, `flipped bytes` or `poisoned`."""
        data = self.data("flipped" if kind == "flipped bytes" else "whole")
        if kind == "two hosts":
            settings["hosts"] = 2
        if kind == "poisoned":
            settings["poison"] = self.poison
        return Run(directory, data, self.compiled, **settings)

    def undisturbed(self, kind: str) -> Run:
        """The run of a kind that is not disturbed."""
        if kind not in self._undisturbed:
            run = self.run(self.root / "undisturbed" / kind.replace(" ", "-"), kind)
            for ending in run.finish(run.start()):
                assert ending.code == 0, f"an undisturbed run: {ending}"
            self._undisturbed[kind] = run
        return self._undisturbed[kind]

    def data(self, kind: str) -> Path:
        """A prepared set, `whole` or with bits `flipped` in three places of one shard."""
        if kind not in self._data:
            made = shrunk_recipe.write_clips(self.root / f"{kind} data")
            if kind == "flipped":
                flip_in_records(random.Random(self._seed), made)
            self._data[kind] = made
        return self._data[kind]


class Trial:
    """A fault gets one: it starts runs, disturbs them and states what it expects.

    Attributes:
        fault: its name.
        stage: what it shares with other trials.
        draw: random steps and places.
        happened: what happened, in words.
        lost: steps that had to be repeated, None where no run continues.
        missed: expectations that were not met.
        untried: why the fault cannot be tried on this machine; empty if it was tried.
    """

    def __init__(self, fault: str, stage: Stage, draw: random.Random) -> None:
        self.fault = fault
        self.stage = stage
        self.draw = draw
        self.happened: list[str] = []
        self.lost: int | None = None
        self.missed: list[str] = []
        self.untried = ""
        self.directory = stage.root / f"{fault.replace(' ', '-')}-{draw.getrandbits(32):08x}"
        self.place = epath.Path(f"gs://chaos/{self.directory.name}" if stage.bucket else self.directory)
        self._runs: list[Run] = []
        self._ended: list[Ending] = []

    def run(self, kind: str = "plain", directory: Path | None = None, **settings: object) -> Run:
        """A run that is not started yet."""
        self._runs.append(self.stage.run(directory or self.place / "run", kind, **settings))
        return self._runs[-1]

    def finished_run(self) -> Run:
        """A copy of an undisturbed run."""
        finished = self.stage.undisturbed("plain")
        run = self.run()
        run.copy_from(finished)
        return run

    def started(self, *arguments: object, **settings: object) -> tuple[Run, list[subprocess.Popen]]:
        """A run that has made a random number of steps, at most half of them, and its processes."""
        run = self.run(*arguments, **settings)
        step = run.reached = self.draw.randint(1, run.steps // 2)
        if self.stage.pauses:
            processes = run.start(pause_after=step)
            run.wait_for_pause(processes)
        else:
            processes = run.start()
            run.wait_for_step(step, processes)
        return run, processes

    def expect(self, holds: bool, what: str) -> None:
        """Note `what` as missed unless it `holds`."""
        if not holds:
            self.missed.append(what)

    def ended(
        self, run: Run, processes: Sequence[subprocess.Popen], codes: int | Collection[int], line: str = ""
    ) -> list[Ending]:
        """Wait until processes have ended; expect of each one of these codes, and a last line like this."""
        codes = (codes,) if isinstance(codes, int) else codes
        ended = run.finish(processes)
        self._ended += ended
        for ending in ended:
            self.expect(ending.code in codes, f"exit code {ending.code}, not {codes}: {ending.line!r}")
            self.expect(re.fullmatch(line, ending.line) or not line, f"{ending.line!r} is not like {line!r}")
            self.expect("Traceback" not in ending.err, "a traceback on stderr")
        if line:
            self.happened.append(f"exit {ended[0].code}, “{self.in_general(ended[0].line)}”")
        return ended

    def completes(self, run: Run, processes: Sequence[subprocess.Popen], kind: str = "plain") -> Ending:
        """Wait until the run has ended; expect that it is finished and equal to an undisturbed one."""
        ending = self.ended(run, processes, 0)[0]
        found = differences(run, self.stage.undisturbed(kind)) if ending.code == 0 else ["it did not end"]
        self.expect(not found, f"not as undisturbed: {'; '.join(found)}")
        self.happened.append("completed, NOT as undisturbed" if found else "completed as undisturbed")
        return ending

    def goes_on(self, run: Run, at_most: int, kind: str = "plain", **changes: object) -> Ending:
        """Give the same command again; expect that it completes the run and repeats few steps."""
        logged = max(run.logged(), run.reached)
        ending = self.completes(run, run.start(**changes), kind)
        self.happened[-1] = f"again: {self.happened[-1]}"
        self.lost = logged - ending.first_step
        self.expect(0 <= self.lost <= at_most, f"{self.lost} steps lost, more than {at_most}")
        return ending

    def close(self) -> None:
        """Kill all processes; keep the directory only if an expectation was missed."""
        for run in self._runs:
            run.kill()
        if not self.missed:
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        self.directory.mkdir(exist_ok=True)
        for number, ending in enumerate(self._ended):
            (self.directory / f"stderr-{number}.txt").write_text(ending.err)

    def in_general(self, line: str) -> str:
        """A line without the names and numbers of this trial."""
        line = line.replace(str(self.place), "…").replace(str(self.directory), "…").removeprefix("pretrain: ")
        for found, general in (
            (r"\(.*\)", "(…)"),
            (r"(?<= was not saved: ).*(?=; mend)", "…"),
            (r"\d+", "N"),
        ):
            line = re.sub(found, general, line)
        return line if len(line) <= 130 else f"{line[:130]}…"


Fault = Callable[[Trial], None]


def attempt(name: str, fault: Fault, stage: Stage, draw: random.Random) -> Trial:
    """Try a fault once. An exception counts as an expectation that was missed."""
    trial = Trial(name, stage, draw)
    try:
        fault(trial)
    except Exception as error:  # the other faults are to be tried too
        trial.missed.append(f"{type(error).__name__}: {error}")
    finally:
        trial.close()
    return trial


def flip_in_records(draw: random.Random, data: Path, times: int = 3) -> None:
    """Flip bits in the records of one shard, not in the index after them."""
    file = draw.choice(sorted(data.rglob("*.array_record*")))
    content = file.read_bytes()
    begin, end = content.index(b"HCMR"), content.rindex(b"HCMR")
    flip(draw, file, begin, end, times)


def flip(draw: random.Random, file: epath.Path | Path, begin: int, end: int, times: int = 1) -> None:
    """Flip random bits between two places of a file."""
    content = bytearray(file.read_bytes())
    for _ in range(times):
        content[draw.randrange(begin, end)] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
