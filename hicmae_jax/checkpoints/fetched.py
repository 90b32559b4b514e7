"""Makes the files of a checkpoint readable on a local disk, wherever it lies."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from data_pipeline.common.buckets import Bucket, is_bucket
from hicmae_jax.checkpoints.checksums import SEAL


@contextlib.contextmanager
def on_disk(path: epath.Path) -> Iterator[epath.Path]:
    """The directory of a checkpoint on a disk; a copy, removed at the end, of one in a bucket.

    Args:
        path: directory of the checkpoint, whose name is its step.

    Raises:
        OSError: it cannot be fetched, or the disk for temporary files (`TMPDIR`) is full.
    """
    if not is_bucket(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="hicmae-checkpoint-") as directory:
        copy = Path(directory) / path.name
        fetch(Bucket(path), copy)
        yield epath.Path(copy)


def fetch(bucket: Bucket, directory: Path) -> None:
    """Copy a checkpoint from a bucket; whether it is damaged is for the caller to check.

    Args:
        bucket: the objects of the checkpoint.
        directory: a new directory.

    Raises:
        OSError: it cannot be fetched.
    """
    directory.mkdir(parents=True)
    bucket.download({name: directory / name for name in names_in(bucket)}, absent_too=True)


def names_in(bucket: Bucket) -> set[str]:
    """The objects that a checkpoint may have: those listed, and those in its seal, as a listing may be old.

    Args:
        bucket: the objects of the checkpoint.

    Raises:
        OSError: the bucket cannot be read.
    """
    names = set(bucket.list())
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        names |= {SEAL, *json.loads(bucket.read(SEAL))["files"]}
    return names
