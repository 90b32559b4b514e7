"""Where a run lies: a directory on a disk, or one in a bucket with a local directory for its files."""

import contextlib
from collections.abc import Callable, Iterable

from etils import epath

from data_pipeline.common.buckets import is_bucket
from hicmae_jax.runs.bucket_lease import BucketLease
from hicmae_jax.runs.in_use import Hold
from hicmae_jax.runs.mirror import Mirror


class RunPlace:
    """The directory of a run, as one process sees it; call `close` at the end.

    Args:
        address: the directory, on a disk or in a bucket.

    Attributes:
        address: as given.
        files: directory on a disk for all files but checkpoints and what tells of the process.
        send: sends the files that have changed to the bucket; None on a disk.

    Raises:
        ImportError: the package for this kind of bucket is missing.
    """

    def __init__(self, address: epath.PathLike) -> None:
        self.address = epath.Path(address)
        self._mirror = Mirror(self.address) if is_bucket(self.address) else None
        self._lease: BucketLease | None = None
        self.files = epath.Path(self._mirror.directory) if self._mirror else self.address
        self.send: Callable[[], None] | None = self._mirror.send if self._mirror else None

    def hold(self, stack: contextlib.ExitStack) -> None:
        """Keep other processes out until the stack is closed.

        Raises:
            InUseError: another process holds the directory.
            OSError: it cannot be written.
        """
        if self._mirror:
            self._lease = stack.enter_context(BucketLease(self.address))
        else:
            stack.enter_context(Hold(self.address))

    def fetch(self, stack: contextlib.ExitStack, names: Iterable[str]) -> None:
        """Fetch the files of a run in a bucket, and send what changes until the stack is closed.

        Args:
            stack: takes what must be closed.
            names: files that are fetched even if a listing does not show them yet.

        Raises:
            OSError: the bucket cannot be read.
        """
        if self._mirror:
            self._mirror.fetch(names)
            stack.enter_context(self._mirror)

    def before_publish(self) -> None:
        """Send the log up to a checkpoint before that is complete, and refuse it if the lease is lost.

        Raises:
            InUseError: another process has taken the directory over.
            OSError: the bucket cannot be read or written.
        """
        if self._mirror:
            self._mirror.send()
        if self._lease:
            self._lease.check()

    def close(self) -> None:
        """Remove the local directory of a run in a bucket."""
        if self._mirror:
            self._mirror.close()
