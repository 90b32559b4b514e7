"""Faults of disks: damaged checkpoints, flipped bits in the data, no space left."""

import contextlib
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from etils import epath

from data_pipeline.common import anywhere
from hicmae_jax.checkpoints import checksums
from tests.chaos.runs import Run
from tests.chaos.trials import Fault, Trial, flip

# --- Checkpoints --------------------------------------------------------------------------------------------

Damage = Callable[[Trial, epath.Path], None]


def flip_a_bit(trial: Trial, file: epath.Path) -> None:
    flip(trial.draw, file, 0, len(file.read_bytes()))


def remove(trial: Trial, file: epath.Path) -> None:
    file.unlink()


def cut_by_half(trial: Trial, file: epath.Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def damage_one_file(trial: Trial, run: Run, step: int, damage: Damage) -> str:
    """Damage a random file of a checkpoint, and return its name there."""
    name = trial.draw.choice(sorted(run.files(f"checkpoints/{step}")))
    damage(trial, run.directory / f"checkpoints/{step}" / name)
    return name


def last_damaged(trial: Trial, damage: Damage) -> None:
    run = trial.finished_run()
    name = damage_one_file(trial, run, run.steps, damage)
    before = run.files(f"checkpoints/{run.steps}")
    ending = trial.goes_on(run, run.every)
    aside = f"damaged_checkpoints/{run.steps}"
    line = (
        rf"the checkpoint of step {run.steps} is damaged \((.+)\) and now in "
        rf"{re.escape(str(run.directory))}/{aside}; going on from step {run.steps - run.every}"
    )
    said = re.search(line, ending.err)
    trial.expect(said and name in said[1], f"{name} was damaged, but stderr is {ending.err}")
    trial.expect(run.files(aside) == before, "the damaged checkpoint was not kept")
    trial.happened.insert(0, f"“{trial.in_general(said[0])}”" if said else "no message")


def all_damaged(trial: Trial) -> None:
    run = trial.finished_run()
    for step in run.saved():
        damage_one_file(trial, run, step, trial.draw.choice((flip_a_bit, remove, cut_by_half)))
    before = run.files()
    steps = "; ".join(rf"step {step}: .+" for step in reversed(run.saved()))
    line = (
        rf"pretrain: {re.escape(str(run.directory))}/checkpoints: every checkpoint is damaged \({steps}\); "
        "put a good copy of one there, or begin again in a new directory"
    )
    trial.ended(run, run.start(), 1, line)
    changed = {name for name, content in run.files().items() if before.get(name) != content}
    trial.expect(not changed and len(run.files()) == len(before), f"the directory was changed: {changed}")


# --- Data ---------------------------------------------------------------------------------------------------


def flipped_bytes(trial: Trial) -> None:
    undisturbed = trial.stage.undisturbed("flipped bytes")
    listed = broken(undisturbed)
    trial.expect(listed, "no clip is listed as broken")
    last = undisturbed.metrics()[-1]
    trial.expect(re.search(r'"replaced": [1-9]', last), f"no clip was replaced: {last}")
    run, processes = trial.started("flipped bytes")
    processes[0].kill()
    trial.ended(run, processes, -9)
    trial.happened.append(f"{len(listed)} clips replaced and listed; killed")
    trial.goes_on(run, run.lost_by_a_kill, "flipped bytes")
    trial.expect(broken(run) == listed, f"another list of broken clips: {broken(run)}, not {listed}")


def broken(run: Run) -> list[str]:
    return sorted(anywhere.read(run.directory / "broken_clips.txt").decode().splitlines())


# --- Space --------------------------------------------------------------------------------------------------


def files_limited(trial: Trial) -> None:
    """No file may grow beyond a random size: a write fails after some of its bytes."""
    run, processes = trial.started()
    size = int(2 ** trial.draw.uniform(8, 19))
    resource.prlimit(processes[0].pid, resource.RLIMIT_FSIZE, (size, size))
    ends_for_want_of_space(trial, run, processes, "File too large")
    trial.goes_on(run, run.lost_by_a_kill)


def disk_full(trial: Trial) -> None:
    with small_disk(trial.directory / "disk") as disk:
        if disk is None:
            trial.untried = "it needs the right to mount a small disk"
            return
        run, processes = trial.started(directory=disk / "run")
        balloon = disk / "balloon"
        fill(balloon, leave=trial.draw.randrange(100_000))
        ends_for_want_of_space(trial, run, processes, "No space left on device")
        balloon.unlink()
        trial.goes_on(run, run.lost_by_a_kill)


def ends_for_want_of_space(trial: Trial, run: Run, processes: list[subprocess.Popen], reason: str) -> None:
    trial.ended(run, processes, 1, rf"pretrain: {re.escape(str(run.directory))}/.*{reason}.*; .+")
    for step in run.saved():
        damage = checksums.check(run.directory / f"checkpoints/{step}")
        trial.expect(damage is None, f"the checkpoint of step {step}: {damage}")


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """Mount a disk of 16 MiB; None without the right to mount."""
    place.mkdir(parents=True)
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield place
    finally:
        # Lazily, because a process may still have files open there.
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(file: Path, leave: int) -> None:
    """Make a file that fills its disk but for `leave` bytes."""
    state = os.statvfs(file.parent)
    with file.open("wb") as balloon, contextlib.suppress(OSError):
        for size in (state.f_bavail * state.f_frsize, 4096):
            while True:
                try:
                    os.posix_fallocate(balloon.fileno(), balloon.seek(0, 2), size)
                except OSError:
                    break
    os.truncate(file, max(0, file.stat().st_size - leave))


FAULTS: dict[str, Fault] = {
    "a bit flipped in the last checkpoint": lambda trial: last_damaged(trial, flip_a_bit),
    "a file of the last checkpoint removed": lambda trial: last_damaged(trial, remove),
    "a file of the last checkpoint cut by half": lambda trial: last_damaged(trial, cut_by_half),
    "every checkpoint damaged": all_damaged,
    "flipped bytes in a shard": flipped_bytes,
    "files may not grow": files_limited,
    "disk full": disk_full,
}
