"""Files that appear complete or not at all, on a local disk or in a bucket.

`replace_text` and `replacing` write a file beside its target and then rename it, so no reader sees an
incomplete file. `staging` and `publish` are for shards: they write a file in a temporary directory and then
rename it, or upload it to an object store, where an object exists only once it is complete. On a disk, a
killed process leaves its files in one directory, which `clear` deletes.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etils import epath

from data_pipeline.common.paths import file_length, is_local

PARTIAL = ".partial"
"""Ending of a file that `replacing` has not finished."""
UNFINISHED = ".unfinished_shards"
"""Directory of files that are not published yet. `clear` deletes it without asking, so nobody else may use
this name."""


@contextmanager
def replacing(path: epath.PathLike, partial_name: str | None = None) -> Iterator[epath.Path]:
    """Replace a file by the one that the block writes; after an error, the old file stays and no other one.

    Args:
        path: the file. It need not exist, but its directory must.
        partial_name: name of the file while it is written, for writers that choose the format by the name's
            ending; by default the final name followed by `.partial`.

    Yields:
        The path to write to, in the same directory.
    """
    path = epath.Path(path)
    partial = path.parent / (partial_name or f"{path.name}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def replace_text(path: epath.PathLike, text: str) -> None:
    """Replace a UTF-8 text file."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def staging(root: epath.Path) -> Iterator[Path]:
    """A temporary directory for files that will be published under `root`."""
    parent = None
    if is_local(root):
        parent = Path(root) / UNFINISHED  # on the file system of `root`, so that a rename is enough
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def publish(file: Path, target: epath.Path) -> None:
    """Move a finished file from its staging directory to its final name, replacing what is there.

    Raises:
        OSError: the file did not arrive in full.
    """
    with file.open("rb") as written:
        os.fsync(written.fileno())
    length = file.stat().st_size
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_local(target):
        os.replace(file, target)
    else:
        epath.Path(file).copy(target, overwrite=True)
    if (arrived := file_length(target)) != length:
        raise OSError(f"{target} has {arrived} bytes after an upload of {length}")


def publish_text(text: str, root: epath.Path, name: str) -> None:
    """Write a UTF-8 text file `name` under `root`, replacing what is there."""
    with staging(root) as directory:
        file = directory / "text"
        file.write_text(text, encoding="utf-8")
        publish(file, root / name)


def clear(root: epath.Path) -> None:
    """Delete the files that killed processes have left. No other process may be writing under `root`."""
    if is_local(root):
        shutil.rmtree(Path(root) / UNFINISHED, ignore_errors=True)
