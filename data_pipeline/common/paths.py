"""Paths on a disk or in a bucket."""

import os
import stat

from etils import epath


def is_local(path: epath.Path) -> bool:
    """Whether a path is on a local or mounted disk, not in a bucket."""
    return "://" not in os.fspath(path)


def file_length(path: epath.Path) -> int:
    """The number of bytes in a file.

    `epath.Path.stat` also looks up the owner's name, and raises KeyError if the owner has none on this
    machine, as in a container or on a network disk.

    Args:
        path: on a disk or in a bucket.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file cannot be examined.
    """
    return os.stat(path).st_size if is_local(path) else path.stat().length


def may_be_file(path: epath.Path) -> bool:
    """Whether a path does not lead to a directory, nor to a pipe, which would be waited for without end.

    Args:
        path: on a disk or in a bucket. What is missing, unreadable or in a bucket may be a file.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True
