"""Small files on a disk or in a bucket: read whole, and written whole or not at all."""

import os
from pathlib import Path

from data_pipeline.common import atomic_files
from data_pipeline.common.buckets import Bucket, is_bucket

FilePath = str | os.PathLike[str]


def read(path: FilePath, patience: float | None = None) -> bytes:
    """The content of a file.

    Args:
        path: on a disk or in a bucket.
        patience: seconds for which a request to a bucket is tried again; None for ten minutes.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
    """
    if not is_bucket(path):
        return Path(path).read_bytes()
    directory, name = _split(path)
    return Bucket(directory, patience).read(name)


def write(path: FilePath, content: bytes, patience: float | None = None) -> None:
    """Write a file in place of an earlier one, and make its directory if it is missing.

    Raises:
        OSError: it cannot be written; an earlier file stays.
    """
    if is_bucket(path):
        directory, name = _split(path)
        Bucket(directory, patience).write(name, content)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.replacing(path) as partial:
        partial.write_bytes(content)


def remove(path: FilePath, patience: float | None = None) -> None:
    """Remove a file; one that is not there is no error.

    Raises:
        OSError: it cannot be removed.
    """
    if is_bucket(path):
        directory, name = _split(path)
        Bucket(directory, patience).delete([name])
    else:
        Path(path).unlink(missing_ok=True)


def modified(path: FilePath, patience: float | None = None) -> float:
    """When a file was last written, in seconds since 1970, by the clock of the disk or the bucket.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be asked for.
    """
    if not is_bucket(path):
        return os.stat(path).st_mtime
    directory, name = _split(path)
    return Bucket(directory, patience).modified(name)


def names(directory: FilePath, patience: float | None = None) -> list[str]:
    """The sorted names of files and directories in a directory; none if it is missing.

    Raises:
        OSError: it cannot be listed, or is a file.
    """
    if is_bucket(directory):
        return sorted({name.partition("/")[0] for name in Bucket(directory, patience).list()})
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        if os.path.exists(directory):
            raise
        return []  # a file stands where one of its parents should be


def _split(path: FilePath) -> tuple[str, str]:
    directory, _, name = os.fspath(path).rpartition("/")
    return directory, name
