"""A lock against two preparations of the same set at once."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from etils import epath

from data_pipeline.common.paths import is_local


@contextlib.contextmanager
def locked(output: epath.Path) -> Iterator[None]:
    """Locks a local output against a second preparation; the lock also ends with the process.

    Args:
        output: directory of the prepared set, which is made if it is not there.

    Raises:
        RuntimeError: another process is preparing the same set.
    """
    if not is_local(output):
        yield
        return
    output.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"{output} is being prepared by another process") from None
        yield
    finally:
        os.close(descriptor)
