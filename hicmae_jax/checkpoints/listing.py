"""Finds the completed checkpoints of a run, on a disk or in a bucket.

On a disk a checkpoint gets the name of its step when it is complete. A bucket has no renaming, so there a
checkpoint is written under its final name, and two objects say how far it is::

    checkpoints/<step>/unfinished        written before all others of a save or removal, removed last
    checkpoints/<step>/checksums.json    the seal, written after all files that it lists
    checkpoints/steps.json               the steps that are complete, if a listing does not show them yet

With a seal it is complete. Without one it is unfinished if it says so, and otherwise damaged.
"""

import contextlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from etils import epath

from data_pipeline.common.buckets import THREADS, Bucket, is_bucket
from hicmae_jax.checkpoints.checksums import SEAL

UNFINISHED, INDEX = "unfinished", "steps.json"
DIRECTORY = "checkpoints"
"""Name of the directory of checkpoints in the directory of a run."""
RECORD = "record.json"
"""Name of the description of the run in the directory of a checkpoint."""
_STEP = re.compile(r"0|[1-9][0-9]*")


class Found(NamedTuple):
    """The steps under whose names objects lie in a bucket.

    Attributes:
        complete: those of completed checkpoints, including those damaged since.
        unfinished: those of saves and removals that are under way, or were interrupted.
    """

    complete: list[int]
    unfinished: list[int]


def find_all(root: epath.Path) -> dict[int, epath.Path]:
    """Step → directory of every completed checkpoint, including those damaged since.

    Args:
        root: directory of the checkpoints, on a disk or in a bucket.

    Raises:
        FileNotFoundError: there is no such directory on the disk.
        OSError: the bucket cannot be read.
    """
    if is_bucket(root):
        return {step: root / str(step) for step in look(Bucket(root)).complete}
    # Not isdecimal: it allows 007, and the digits of other scripts.
    return {int(path.name): path for path in root.iterdir() if _STEP.fullmatch(path.name)}


def look(bucket: Bucket) -> Found:
    """Find the checkpoints in a bucket; each is asked for by name, because a listing may be old.

    Args:
        bucket: the objects below the directory of the checkpoints.

    Raises:
        OSError: the bucket cannot be read.
    """
    listed = bucket.list()
    shown = {int(name.partition("/")[0]) for name in listed if _STEP.fullmatch(name.partition("/")[0])}
    steps = sorted(shown | set(read_index(bucket)))

    def state(step: int) -> str:
        if bucket.size(f"{step}/{SEAL}") is not None:
            return "complete"
        if bucket.size(f"{step}/{UNFINISHED}") is not None:
            return "unfinished"
        return "complete" if step in shown and _holds_any(bucket, listed, step) else "absent"

    with ThreadPoolExecutor(THREADS) as pool:
        states = dict(zip(steps, pool.map(state, steps), strict=True))
    return Found(*([step for step in steps if states[step] == kind] for kind in Found._fields))


def read_index(bucket: Bucket) -> list[int]:
    """The steps that `steps.json` lists; none if it is missing or damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        return [int(step) for step in json.loads(bucket.read(INDEX))]
    return []


def _holds_any(bucket: Bucket, listed: dict[str, int], step: int) -> bool:
    """Whether an object that is listed under a step is still there."""
    names = [name for name in listed if name.startswith(f"{step}/")]
    return any(bucket.size(name) is not None for name in names)
