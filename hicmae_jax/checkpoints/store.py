"""Where the checkpoints of a run lie: what a disk and a bucket must both be able to do."""

from collections.abc import Callable
from typing import Protocol

from etils import epath

from data_pipeline.common.buckets import is_bucket
from hicmae_jax.checkpoints.bucket_store import BucketStore
from hicmae_jax.checkpoints.disk_store import DiskStore


class Store(Protocol):
    """The checkpoints of a run.

    A save calls `begin`, `mark`, `has_all`, `gather` and `publish`, in this order. All but `begin`, `part`,
    `mark`, `local` and `forget` are for the first process only.

    Attributes:
        seconds_between_looks: pause between two calls of `has_all`.
    """

    seconds_between_looks: float

    def open(self) -> None:
        """Make the place, and check that it can be read."""

    def close(self) -> None:
        """Remove temporary files."""

    def begin(self, step: int) -> None:
        """Prepare for a save; every process calls it."""

    def part(self, step: int) -> epath.Path:
        """The directory on a disk to which this process writes; in the first, after `gather`, the whole."""
        ...

    def mark(self, step: int) -> None:
        """Say that this process has written its part."""

    def has_all(self, step: int) -> bool:
        """Whether all processes have written their parts."""
        ...

    def gather(self, step: int) -> None:
        """Bring the parts of all processes together in the first process's `part`."""

    def publish(self, step: int) -> None:
        """Turn the sealed `part` into a completed checkpoint, in one moment."""

    def holds(self, step: int) -> bool:
        """Whether there is a completed checkpoint of this step."""
        ...

    def local(self, step: int) -> epath.Path:
        """The files of a completed checkpoint on a disk, until `forget`."""
        ...

    def forget(self) -> None:
        """Remove the copies that `local` has made."""

    def remove(self, step: int) -> None:
        """Remove a completed checkpoint."""

    def move_away(self, step: int) -> epath.Path:
        """Move a damaged checkpoint aside; returns where it is now."""
        ...

    def clear(self) -> None:
        """Remove what interrupted saves and removals have left."""

    def steps(self) -> list[int]:
        """The steps of all completed checkpoints, including those damaged since, in order."""
        ...


def open_store(root: epath.Path, damaged: epath.Path, before_publish: Callable[[], None]) -> Store:
    """The store for a directory of checkpoints.

    Args:
        root: the directory, on a disk or in a bucket.
        damaged: directory for damaged checkpoints, in the same place.
        before_publish: called in a thread of the first process before a checkpoint becomes complete; an
            error stops that.
    """
    if is_bucket(root):
        return BucketStore(root, damaged, before_publish)
    return DiskStore(root, damaged, before_publish)
