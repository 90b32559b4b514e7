"""Files that appear whole or not at all, on a local disk or in a bucket.

A file is written into a temporary directory and published from there: by renaming it on a local (or shared)
file system, by uploading it to an object store, where an object is there only once it is complete. What a
killed process leaves behind is in one known place, which `clear` empties.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etils import epath

UNFINISHED = ".unfinished_shards"
"""Directory of what is being written: deleted without asking, hence a name that nobody else gives."""


def is_local(path: epath.Path) -> bool:
    """Whether `path` is one of the operating system's, not of a bucket."""
    return "://" not in os.fspath(path)


@contextmanager
def staging(root: epath.Path) -> Iterator[Path]:
    """Gives a temporary directory to write files in that will be published under `root`."""
    parent = None
    if is_local(root):
        parent = Path(root) / UNFINISHED  # on the file system of `root`, so that a rename will do
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def publish(file: Path, target: epath.Path) -> None:
    """Moves a finished file out of its staging directory to its final name, replacing what is there.

    Raises:
        OSError: if the file did not arrive in full.
    """
    with file.open("rb") as written:
        os.fsync(written.fileno())
    length = file.stat().st_size
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_local(target):
        os.replace(file, target)
    else:
        epath.Path(file).copy(target, overwrite=True)
    if target.stat().length != length:
        raise OSError(f"{target} has {target.stat().length} bytes after an upload of {length}")


def publish_text(text: str, root: epath.Path, name: str) -> None:
    """Writes a UTF-8 text file `name` under `root`, replacing what is there."""
    with staging(root) as directory:
        file = directory / "text"
        file.write_text(text, encoding="utf-8")
        publish(file, root / name)


def clear(root: epath.Path) -> None:
    """Removes what killed processes left; no other process may be writing under `root`."""
    if is_local(root):
        shutil.rmtree(Path(root) / UNFINISHED, ignore_errors=True)
