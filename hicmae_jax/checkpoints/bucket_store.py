"""The checkpoints of a run in a bucket.

Every process writes its part to its own disk first. The other processes send their parts with a list of
checksums. The first process fetches them, so that parts are counted and the seal is made from files on a
disk, as everywhere. It sends what is new, the seal after all else. `listing` says which objects make a
checkpoint complete.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from etils import epath

from data_pipeline.common.buckets import Bucket, BucketError
from hicmae_jax.checkpoints import checksums, listing
from hicmae_jax.checkpoints.checksums import SEAL
from hicmae_jax.checkpoints.fetched import fetch, names_in
from hicmae_jax.checkpoints.listing import INDEX, UNFINISHED
from hicmae_jax.checkpoints.reader import STATE

MARKS = "written_by"


class BucketStore:
    """The directory `checkpoints` of a run; see `store.Store`.

    Args:
        root: URL of the directory.
        damaged: URL for damaged checkpoints, in the same bucket.
        before_publish: called before the seal is written.
    """

    seconds_between_looks = 1.0

    def __init__(self, root: epath.Path, damaged: epath.Path, before_publish: Callable[[], None]) -> None:
        self._root, self._damaged = root, damaged
        self._before_publish = before_publish
        self._bucket = Bucket(root)
        self._temporary = tempfile.TemporaryDirectory(
            prefix="hicmae-checkpoints-", ignore_cleanup_errors=True
        )
        self._here = Path(self._temporary.name)
        self._marked: dict[int, dict[str, Any]] = {}

    def open(self) -> None:
        """Check that the bucket can be read."""
        self._bucket.size(INDEX)

    def close(self) -> None:
        """Remove what lies on this process's disk."""
        self._temporary.cleanup()

    # --- Saving ---------------------------------------------------------------------------------------------

    def begin(self, step: int) -> None:
        """Make the directory to write to; the first process also announces the save in the bucket."""
        part = Path(self.part(step))
        shutil.rmtree(part, ignore_errors=True)
        # Orbax waits on all processes until the first has made this, in a directory that they would share.
        (part / STATE / "array_metadatas").mkdir(parents=True)
        self._marked = {}
        if jax.process_index() == 0:
            self._bucket.write(f"{step}/{UNFINISHED}", b"")
            left = names_in(Bucket(self._root / str(step))) - {UNFINISHED}
            self._bucket.delete(f"{step}/{name}" for name in sorted(left))

    def part(self, step: int) -> epath.Path:
        """The directory of this process."""
        return epath.Path(self._here / "written" / str(step))

    def mark(self, step: int) -> None:
        """Send this process's part, and the list of its files; the first process sends at the end."""
        if jax.process_index() == 0:
            return
        part = Path(self.part(step))
        files = checksums.describe(self.part(step))
        self._bucket.upload({f"{step}/{name}": part / name for name in files})
        self._bucket.write(f"{step}/{MARKS}/{jax.process_index()}", json.dumps(files).encode())
        shutil.rmtree(part)

    def has_all(self, step: int) -> bool:
        """Whether the lists of all other processes are there."""
        for process in range(1, jax.process_count()):
            if process not in self._marked:
                try:
                    self._marked[process] = json.loads(self._bucket.read(f"{step}/{MARKS}/{process}"))
                except FileNotFoundError:
                    return False
        return True

    def gather(self, step: int) -> None:
        """Fetch the parts of the other processes, and compare their checksums."""
        part = Path(self.part(step))
        files = {name: about for marked in self._marked.values() for name, about in marked.items()}
        missing = {name: about for name, about in files.items() if not (part / name).exists()}
        self._bucket.download({f"{step}/{name}": part / name for name in missing})
        if reason := checksums.compare(self.part(step), missing):
            raise OSError(f"{self._root / str(step)}: {reason} after it was fetched from the bucket")

    def publish(self, step: int) -> None:
        """Send all files that are not there yet, then the seal; only then the checkpoint is complete."""
        part = Path(self.part(step))
        sealed = json.loads((part / SEAL).read_bytes())["files"]
        sent = {name: about for marked in self._marked.values() for name, about in marked.items()}
        new = [name for name, about in sealed.items() if sent.get(name) != about]
        self._bucket.upload({f"{step}/{name}": part / name for name in new})
        self._before_publish()
        self._bucket.write(f"{step}/{SEAL}", (part / SEAL).read_bytes())
        gone = [f"{step}/{name}" for name in sent if name not in sealed]
        marks = [f"{step}/{MARKS}/{process}" for process in self._marked]
        self._bucket.delete([*gone, *marks])
        self._write_index({*listing.read_index(self._bucket), step})
        self._bucket.delete([f"{step}/{UNFINISHED}"])
        shutil.rmtree(part)

    def holds(self, step: int) -> bool:
        """Whether the bucket has the seal of this step; false if it cannot be asked."""
        try:
            return self._bucket.size(f"{step}/{SEAL}") is not None
        except BucketError:
            return False

    # --- Reading, removing ----------------------------------------------------------------------------------

    def local(self, step: int) -> epath.Path:
        """A copy of the checkpoint on this process's disk."""
        copy = self._here / "read" / str(step)
        if not copy.exists():
            fetch(Bucket(self._root / str(step)), copy)
        return epath.Path(copy)

    def forget(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self._here / "read", ignore_errors=True)

    def remove(self, step: int) -> None:
        """Remove a checkpoint; one half removed says so."""
        self._bucket.write(f"{step}/{UNFINISHED}", b"")
        names = names_in(Bucket(self._root / str(step))) - {UNFINISHED}
        self._bucket.delete([f"{step}/{SEAL}"])
        self._write_index(set(listing.read_index(self._bucket)) - {step})
        self._bucket.delete(f"{step}/{name}" for name in sorted(names))
        self._bucket.delete([f"{step}/{UNFINISHED}"])

    def move_away(self, step: int) -> epath.Path:
        """Copy a damaged checkpoint aside, then remove it; returns where the copy is."""
        aside = self._free_name(step)
        damaged, whole = Bucket(self._root / str(step)), Bucket(self._root.parent)
        names = [name for name in names_in(damaged) if damaged.size(name) is not None]
        here, there = f"{self._root.name}/{step}", f"{self._damaged.name}/{aside.name}"
        whole.copy({f"{here}/{name}": f"{there}/{name}" for name in names})
        self.remove(step)
        return aside

    def clear(self) -> None:
        """Remove what interrupted saves and removals have left; nothing else."""
        for step in listing.look(self._bucket).unfinished:
            self.remove(step)

    def steps(self) -> list[int]:
        """The steps of all completed checkpoints, including those damaged since."""
        return listing.look(self._bucket).complete

    # --- Parts ----------------------------------------------------------------------------------------------

    def _write_index(self, steps: set[int]) -> None:
        self._bucket.write(INDEX, json.dumps(sorted(steps)).encode())

    def _free_name(self, step: int) -> epath.Path:
        taken = {name.partition("/")[0] for name in Bucket(self._damaged).list()}
        names = (str(step), *(f"{step}-{number}" for number in range(2, len(taken) + 3)))
        return self._damaged / next(name for name in names if name not in taken)
