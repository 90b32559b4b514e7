"""The checkpoints of a run on a local or mounted disk.

All processes write to `<step>.partial`, each its part of the arrays and then a mark. The finished directory
is renamed to its step.
"""

from collections.abc import Callable

import jax
from etils import epath

from hicmae_jax.checkpoints import checksums
from hicmae_jax.checkpoints.listing import find_all
from hicmae_jax.checkpoints.reader import STATE

MARKS = "written_by"
# Endings of the name of a checkpoint that is not complete yet, and of one that is being removed.
PARTIAL, REMOVED = ".partial", ".removed"


class DiskStore:
    """The directory `checkpoints` of a run; see `store.Store`.

    Args:
        root: the directory; it is made if it is missing.
        damaged: directory for damaged checkpoints.
        before_publish: called before a checkpoint is renamed to its step.
    """

    seconds_between_looks = 0.1

    def __init__(self, root: epath.Path, damaged: epath.Path, before_publish: Callable[[], None]) -> None:
        self._root, self._damaged = root, damaged
        self._before_publish = before_publish

    def open(self) -> None:
        """Make the directory."""
        self._root.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Do nothing."""

    def begin(self, step: int) -> None:
        """Make the directories to write to, in the first process."""
        if jax.process_index() > 0:
            return
        partial = self.part(step)
        if partial.exists():  # of a save that failed
            partial.rmtree()
        for name in (STATE, MARKS):
            (partial / name).mkdir(parents=True)

    def part(self, step: int) -> epath.Path:
        """The directory that all processes write to."""
        return self._root / f"{step}{PARTIAL}"

    def mark(self, step: int) -> None:
        """Say that this process has written its part."""
        (self.part(step) / MARKS / str(jax.process_index())).touch()

    def has_all(self, step: int) -> bool:
        """Whether all processes have written their parts."""
        return len(list((self.part(step) / MARKS).iterdir())) >= jax.process_count()

    def gather(self, step: int) -> None:
        """Remove the marks; the parts are there."""
        (self.part(step) / MARKS).rmtree()

    def publish(self, step: int) -> None:
        """Rename the sealed directory to its step."""
        self._before_publish()
        self.part(step).rename(self._root / str(step))
        checksums.sync(self._root)

    def holds(self, step: int) -> bool:
        """Whether there is a completed checkpoint of this step."""
        return (self._root / str(step)).exists()

    def local(self, step: int) -> epath.Path:
        """The checkpoint."""
        return self._root / str(step)

    def forget(self) -> None:
        """Do nothing."""

    def remove(self, step: int) -> None:
        """Remove a checkpoint under another name: one half removed must not look like a complete one."""
        removed = (self._root / str(step)).rename(self._root / f"{step}{REMOVED}")
        removed.rmtree()

    def move_away(self, step: int) -> epath.Path:
        """Move a damaged checkpoint; returns where it is now."""
        aside = _free_name(self._damaged / str(step))
        aside.parent.mkdir(exist_ok=True)
        return (self._root / str(step)).rename(aside)

    def clear(self) -> None:
        """Remove what interrupted saves and removals have left."""
        for path in self._root.iterdir():
            if path.suffix in (PARTIAL, REMOVED) and path.stem.isdecimal():
                path.rmtree()

    def steps(self) -> list[int]:
        """The steps of all completed checkpoints, including those damaged since."""
        return sorted(find_all(self._root))


def _free_name(path: epath.Path) -> epath.Path:
    """The path, with a number added to its name if something has that name already."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.parent / f"{path.name}-{number}"
    return free
