"""Finds one checkpoint on disk and reads its contents."""

import collections
import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from etils import epath

from data_pipeline.common import anywhere
from data_pipeline.common.buckets import check_kind, is_bucket
from data_pipeline.common.errors import first_line
from hicmae_jax.checkpoints.listing import DIRECTORY as DIRECTORY
from hicmae_jax.checkpoints.listing import RECORD, find_all

STATE = "state"
# In Orbax's database, a name with one of these endings holds the description of an array; any other name
# holds a part of an array.
_DESCRIPTIONS = (b"/.zarray", b"/zarr.json")


def absolute(directory: epath.PathLike) -> epath.Path:
    """The absolute path of a directory; Orbax refuses relative paths.

    Raises:
        ValueError: it is in a bucket of an unknown kind.
    """
    check_kind(directory)
    path = epath.Path(directory)
    # The path of a bucket, gs://…, is already absolute, and `resolve` would damage it.
    return path if path.is_absolute() else path.resolve()


def find(root: epath.Path, step: int | None) -> epath.Path:
    """Directory of the completed checkpoint of a step, or of the last one if `step` is None.

    Raises:
        FileNotFoundError: there is no such checkpoint; the message lists what there is.
    """
    if not is_bucket(root) and not root.exists():
        raise FileNotFoundError(f"{root}: no such directory")
    found = find_all(root)
    if not found:
        names = anywhere.names(root) or ["nothing"]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise FileNotFoundError(f"{root} holds no complete checkpoint, only {', '.join(names[:8])}{more}")
    step = max(found) if step is None else step
    if step not in found:
        steps = ", ".join(map(str, sorted(found)))
        raise FileNotFoundError(f"{root} holds no checkpoint of step {step}; it holds those of {steps}")
    return found[step]


def exists(directory: epath.Path) -> bool:
    """Whether there is a directory; in a bucket, whether anything lies below its name."""
    return bool(anywhere.names(directory)) if is_bucket(directory) else directory.exists()


def read_state(path: epath.Path, handler: ocp.CheckpointHandler, arguments: ocp.args.CheckpointArgs) -> Any:
    """Read the arrays of the state that the arguments ask for, and close the handler.

    Raises:
        ValueError: the state cannot be read.
    """
    with _damage_named(path), contextlib.closing(handler):
        return handler.restore(path / STATE, args=arguments)


def read_record(path: epath.Path) -> dict[str, Any]:
    """Read the record of the run that wrote the checkpoint, from a disk or a bucket.

    Raises:
        ValueError: the record cannot be read.
    """
    with _damage_named(path):
        return json.loads(anywhere.read(path / RECORD))


def read_step(path: epath.Path) -> int | None:
    """Read the number of updates made from the state, without Orbax, which may wait for other processes.

    Returns:
        The number; None if the state has no array `step`.

    Raises:
        ValueError: the state cannot be read.
    """
    with _damage_named(path):
        database = tensorstore.KvStore.open(_database(path)).result()
        for driver, description in (("zarr", "step/.zarray"), ("zarr3", "step/zarr.json")):
            if database.read(description).result().state == "value":
                step = {"driver": driver, "kvstore": {**_database(path), "path": "step/"}}
                return int(tensorstore.open(step).result().read().result())
        return None


def read_shapes(path: epath.Path) -> Mapping[str, Any]:
    """The tree of the saved state: nested dictionaries and lists whose leaves have a shape and a dtype.

    Raises:
        ValueError: the state cannot be read.
    """
    with _damage_named(path), contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        return handler.metadata(path / STATE).tree


def check_written(directory: epath.Path, arrays: int) -> None:
    """Refuse an incomplete state, for example if this host does not see another host's files yet.

    Otherwise nobody would notice before a run resumes from it. Orbax's own metadata is not used: it does not
    list the parts of an array, and TensorStore keeps some 6 kB of memory for each array described.

    Args:
        directory: the directory that contains `state`.
        arrays: number of arrays in the state.

    Raises:
        ValueError: the number of arrays differs, or an array lacks a part.
    """
    database = tensorstore.KvStore.open(_database(directory)).result()
    names = database.list().result()
    described = {name: database.read(name) for name in names if name.endswith(_DESCRIPTIONS)}
    if len(described) != arrays:
        raise ValueError(f"{len(described)} arrays were written, of {arrays}")
    stored = collections.Counter(name.partition(b"/")[0] for name in names if name not in described)
    for name, description in described.items():
        array, parts = name.partition(b"/")[0], _parts(json.loads(description.result().value))
        if stored[array] != parts:
            raise ValueError(f"{stored[array]} parts of {array.decode()} were written, of {parts}")


def describe_arrays(tree: Any) -> dict[str, str]:
    """Name → dtype and shape of each array in a tree."""
    flat = ocp.tree.to_flat_dict(tree, sep="/")
    return {
        name: f"{np.dtype(leaf.dtype)}{list(leaf.shape)}" for name, leaf in flat.items() if leaf is not None
    }


def check_same_arrays(path: epath.Path, saved: Mapping[str, Any], wanted: Any) -> None:
    """Refuse a state whose arrays differ from those wanted.

    Without this check, Orbax would raise a message of several pages, or pad arrays.

    Raises:
        ValueError: names the first arrays that differ.
    """
    inside, asked = describe_arrays(saved), describe_arrays(wanted)
    problems = [
        *(f"{name} is missing" for name in asked if name not in inside),
        *(f"{name} has no place in this run" for name in inside if name not in asked),
        *(
            f"{name} is {inside[name]}, not {asked[name]}"
            for name in asked
            if inside.get(name, asked[name]) != asked[name]
        ),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{path}: the checkpoint does not fit: {'; '.join(problems[:3])}{more}")


def _database(path: epath.Path) -> dict[str, Any]:
    """The database of the arrays of a checkpoint, in TensorStore's words."""
    # Not a URL, in which characters such as # would have to be escaped.
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{absolute(path) / STATE}/"}}


def _parts(description: Mapping[str, Any]) -> int:
    """The number of parts in which Zarr stores an array, from its description (version 2 or 3)."""
    if "chunks" in description:
        part = description["chunks"]
    else:
        part = description["chunk_grid"]["configuration"]["chunk_shape"]
    return math.prod(-(-size // of) for size, of in zip(description["shape"], part, strict=True))


@contextlib.contextmanager
def _damage_named(path: epath.Path) -> Iterator[None]:
    try:
        yield
    # On damaged files, Orbax and TensorStore may raise almost any exception.
    except Exception as error:
        raise ValueError(
            f"{path}: the checkpoint of step {path.name} cannot be read: {first_line(error)}"
        ) from error
