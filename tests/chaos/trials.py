"""One fault tried once: what was expected of it, and what came."""

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from tests.chaos.runs import Ending, Run, differences
from tests.support import shrunk_recipe


class Stage:
    """Where trials take place: the data, what is compiled, and undisturbed runs to compare with.

    Args:
        root: an empty directory.
        seed: of what all trials share.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        draw = random.Random(seed)
        once, row = draw.randrange(2, 10), draw.randrange(12, 30)
        self.poison = [once, row, row + 1, row + 2]
        self._seed = seed
        self._data: dict[str, Path] = {}
        self._undisturbed: dict[str, Run] = {}

    def run(self, directory: Path, kind: str = "plain", **settings: object) -> Run:
        """A run of a kind: `plain`, `two hosts`, `flipped bytes` or `poisoned`."""
        data = self.data("flipped" if kind == "flipped bytes" else "whole")
        if kind == "two hosts":
            settings["hosts"] = 2
        if kind == "poisoned":
            settings["program"] = "tests.chaos.poisoned"
            settings["options"] = [f"--poison={','.join(map(str, self.poison))}"]
        return Run(directory, data, self.root / "compiled", **settings)

    def undisturbed(self, kind: str) -> Run:
        """The run of a kind that nothing happens to."""
        if kind not in self._undisturbed:
            run = self.run(self.root / "undisturbed" / kind.replace(" ", "-"), kind)
            for ending in run.finish(run.start()):
                assert ending.code == 0, f"a run that nothing happened to: {ending}"
            self._undisturbed[kind] = run
        return self._undisturbed[kind]

    def data(self, kind: str) -> Path:
        """A prepared set, `whole` or with bytes `flipped` in three places of one shard."""
        if kind not in self._data:
            made = shrunk_recipe.write_clips(self.root / f"{kind} data")
            if kind == "flipped":
                flip_in_records(random.Random(self._seed), made)
            self._data[kind] = made
        return self._data[kind]


class Trial:
    """What a fault is given: runs to disturb, random draws, and expectations to state.

    Attributes:
        fault: its name.
        stage: where it takes place.
        draw: of moments and places.
        happened: what came of it, in words.
        lost: steps made again, None where no run goes on.
        missed: expectations that were not met.
        untried: why it cannot be tried here; empty if it was.
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
        self._runs: list[Run] = []
        self._ended: list[Ending] = []

    def run(self, kind: str = "plain", directory: Path | None = None, **settings: object) -> Run:
        """A run that nothing has happened to yet."""
        self._runs.append(self.stage.run(directory or self.directory / "run", kind, **settings))
        return self._runs[-1]

    def finished_run(self) -> Run:
        """A copy of an undisturbed run."""
        finished = self.stage.undisturbed("plain")
        shutil.copytree(finished.directory, self.directory / "run")
        return self.run()

    def started(self, *arguments: object, **settings: object) -> tuple[Run, list[subprocess.Popen]]:
        """A run that has come to a random step of its first half, and its processes."""
        run = self.run(*arguments, **settings)
        processes = run.start()
        run.wait_for(self.draw.randint(1, run.steps // 2), processes)
        return run, processes

    def expect(self, holds: bool, what: str) -> None:
        """State an expectation."""
        if not holds:
            self.missed.append(what)

    def ended(
        self, run: Run, processes: Sequence[subprocess.Popen], codes: int | Collection[int], line: str = ""
    ) -> list[Ending]:
        """Wait for the end of processes, each with one of these codes and a last line like this."""
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
        """The run comes to its end, and is what an undisturbed one is."""
        ending = self.ended(run, processes, 0)[0]
        found = differences(run, self.stage.undisturbed(kind)) if ending.code == 0 else ["it did not end"]
        self.expect(not found, f"not as undisturbed: {'; '.join(found)}")
        self.happened.append("completed, NOT as undisturbed" if found else "completed as undisturbed")
        return ending

    def goes_on(self, run: Run, at_most: int, kind: str = "plain", **changes: object) -> Ending:
        """The same command completes the run, and has no more than so many steps to make again."""
        logged = run.logged()
        ending = self.completes(run, run.start(**changes), kind)
        self.happened[-1] = f"again: {self.happened[-1]}"
        self.lost = logged - ending.first_step
        self.expect(0 <= self.lost <= at_most, f"{self.lost} steps lost, more than {at_most}")
        return ending

    def close(self) -> None:
        """End all processes, and clear away unless something is left to be looked at."""
        for run in self._runs:
            run.kill()
        if not self.missed:
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        self.directory.mkdir(exist_ok=True)
        for number, ending in enumerate(self._ended):
            (self.directory / f"stderr-{number}.txt").write_text(ending.err)

    def in_general(self, line: str) -> str:
        """A line without what is of this trial alone."""
        line = line.replace(str(self.directory), "…").removeprefix("pretrain: ")
        for found, general in (
            (r"\(.*\)", "(…)"),
            (r"(?<= was not saved: ).*(?=; mend)", "…"),
            (r"\d+", "N"),
        ):
            line = re.sub(found, general, line)
        return line if len(line) <= 130 else f"{line[:130]}…"


Fault = Callable[[Trial], None]


def attempt(name: str, fault: Fault, stage: Stage, draw: random.Random) -> Trial:
    """Try a fault once; whatever goes wrong with it is an expectation that was missed."""
    trial = Trial(name, stage, draw)
    try:
        fault(trial)
    except Exception as error:  # each fault is to be tried
        trial.missed.append(f"{type(error).__name__}: {error}")
    finally:
        trial.close()
    return trial


def flip_in_records(draw: random.Random, data: Path, times: int = 3) -> None:
    """Flip bits in the records of one shard, not in what comes after them."""
    file = draw.choice(sorted(data.rglob("*.array_record*")))
    content = file.read_bytes()
    begin, end = content.index(b"HCMR"), content.rindex(b"HCMR")
    flip(draw, file, begin, end, times)


def flip(draw: random.Random, file: Path, begin: int, end: int, times: int = 1) -> None:
    """Flip random bits between two places of a file."""
    content = bytearray(file.read_bytes())
    for _ in range(times):
        content[draw.randrange(begin, end)] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
