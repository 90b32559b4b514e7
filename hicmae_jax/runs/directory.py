"""The directory of a run: what it may be, and JSON files in it."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from data_pipeline.common import anywhere
from data_pipeline.common.buckets import PATIENCE_AT_FIRST
from hicmae_jax.checkpoints.path_names import check_path
from hicmae_jax.checkpoints.reader import DIRECTORY
from hicmae_jax.hosts import agreement
from hicmae_jax.runs import in_use


def check_directory(directory: epath.Path) -> None:
    """Refuse a file, a name that checkpoints cannot have, and a directory that is not a run's.

    Args:
        directory: directory of the run on a disk or in a bucket, which need not exist.

    Raises:
        ValueError: names the directory, and what is in it.
        OSError: the bucket cannot be read.
        ImportError: the package for this kind of bucket is missing.
    """
    check_path(directory)
    try:
        names = set(anywhere.names(directory, PATIENCE_AT_FIRST)) - {agreement.MARK, in_use.FILE}
    except NotADirectoryError:
        raise ValueError(f"{directory} is not a directory: give another one for the run") from None
    # A config.json does not show that it is a run: other programs have files of that name, which the run
    # would overwrite.
    if names and DIRECTORY not in names:
        raise ValueError(
            f"{directory} is not empty and not a run's ({sorted(names)[0]}, …): give a new directory"
        )


def write_json(path: epath.Path, value: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, and make its directory if it is missing.

    Args:
        path: path of the file.
        value: nested dictionary that JSON can hold.

    Raises:
        OSError: the file was not written.
    """
    anywhere.write(path, f"{json.dumps(value, indent=1)}\n".encode())
