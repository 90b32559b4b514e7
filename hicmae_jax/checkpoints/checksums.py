"""The seal of a checkpoint: the file `checksums.json` in it, with the size and SHA-256 of the other files.

After a crash, a partial copy or a flipped bit, a checkpoint can look whole, and reading it may raise no
error. The seal reveals the damage.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.common.paths import file_length

SEAL = "checksums.json"
PARTIAL = f"{SEAL}{atomic_files.PARTIAL}"
# Orbax changes this file after the seal; it holds times and the names of classes, which no run reads.
LATER = "_CHECKPOINT_METADATA"
# Threads can hash at the same time, because hashing releases the GIL. A checkpoint has few large files.
THREADS = 4


def seal(directory: epath.PathLike) -> None:
    """Flush every file of a finished directory to the disk, hash it, and write the seal.

    The seal appears whole or not at all, and only after every file that it lists would survive a power cut.

    Args:
        directory: directory on a local or mounted disk, to which nobody writes any more.

    Raises:
        OSError: a file cannot be read, or the seal cannot be written, for example because the disk is full.
    """
    directory = epath.Path(directory)
    names = _files(directory)
    for name in names:
        sync(directory / name)
    for inside, _, _ in os.walk(directory):
        sync(inside)
    with ThreadPoolExecutor(THREADS) as pool:
        files = dict(zip(names, pool.map(lambda name: _describe(directory / name), names), strict=True))
    with atomic_files.replacing(directory / SEAL) as partial:
        partial.write_text(json.dumps({"files": files}, indent=1) + "\n")
        sync(partial)
    sync(directory)


def check(directory: epath.PathLike) -> str | None:
    """Compare a directory with its seal; files added after the seal are ignored.

    Args:
        directory: directory of a checkpoint, on any file system.

    Returns:
        One line that names the damaged file and says what is wrong with it; None if the directory is whole.
    """
    directory = epath.Path(directory)
    if not directory.exists():
        return "there is no such directory"
    try:
        files = json.loads((directory / SEAL).read_text(encoding="utf-8"))["files"]
        sealed = [(name, about["bytes"], about["sha256"]) for name, about in sorted(files.items())]
    except FileNotFoundError:
        return f"{SEAL} is missing: it was never finished, or copied by half"
    except OSError as error:
        return f"{SEAL} cannot be read: {error.strerror}"
    # After a flipped bit the seal may not be text, may not be JSON, or may lack a key.
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{SEAL} is damaged"
    # Compare sizes first: that finds a truncated file without reading any.
    for name, size, _ in sealed:
        path = directory / name
        if not path.exists():
            return f"{name} is missing"
        if (found := file_length(path)) != size:
            return f"{name} has {found:,} bytes instead of {size:,}"
    with ThreadPoolExecutor(THREADS) as pool:
        for reason in pool.map(lambda file: _compare(directory, *file), sealed):
            if reason:
                return reason
    return None


def sync(path: epath.PathLike) -> None:
    """Wait until a file's content, or a directory's list of names, is on the disk.

    Raises:
        OSError: the path cannot be opened, or the disk reports an error.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(directory: epath.Path) -> list[str]:
    found = (epath.Path(inside) / name for inside, _, names in os.walk(directory) for name in names)
    return sorted({path.relative_to(directory).as_posix() for path in found} - {SEAL, PARTIAL, LATER})


def _describe(path: epath.Path) -> Mapping[str, Any]:
    return {"bytes": file_length(path), "sha256": _sha256(path)}


def _compare(directory: epath.Path, name: str, size: int, sha256: str) -> str | None:
    try:
        same = _sha256(directory / name) == sha256
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return None if same else f"{name} has another content than was saved"


def _sha256(path: epath.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
