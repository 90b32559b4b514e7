"""Reads the parameters of a run on any machine, even while the run continues."""

from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from hicmae_jax.checkpoints import reader
from hicmae_jax.checkpoints.best import BEST, find_best
from hicmae_jax.checkpoints.damage import find_damage
from hicmae_jax.checkpoints.fetched import on_disk

PARAMETERS = "params"
"""The field or key of the saved state that holds the parameters."""


def load_parameters(directory: epath.PathLike, step: int | str | None = None) -> tuple[Any, dict[str, Any]]:
    """Read the parameters of a run without its optimiser state.

    It writes and removes nothing, so the run may still be training.

    Args:
        directory: directory of a run, or its `checkpoints`.
        step: step of the checkpoint; None for the last, `best` for the one with the best score.

    Returns:
        The parameters, NumPy arrays as they were saved (scanned encoders have stacked layers), and the record
        of the checkpoint.

    Raises:
        FileNotFoundError: the directory is not that of a run, or has no such checkpoint.
        ValueError: the checkpoint is damaged, or holds no parameters.
    """
    found = _find(directory, step)
    with on_disk(found) as path:
        return _read_parameters(found, path)


def _read_parameters(found: epath.Path, path: epath.Path) -> tuple[Any, dict[str, Any]]:
    """The parameters and the record of a checkpoint that was found in one place and is read in another."""
    if reason := find_damage(path):
        raise ValueError(
            f"{found}: the checkpoint of step {path.name} is damaged ({reason}); use another or a good copy"
        )
    shapes = reader.read_shapes(path)
    if PARAMETERS not in shapes:
        raise ValueError(f"{found}: the checkpoint holds no `{PARAMETERS}`, only {', '.join(shapes)}")
    wanted = {PARAMETERS: shapes[PARAMETERS]}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    state = reader.read_state(path, ocp.PyTreeCheckpointHandler(), arguments)
    return state[PARAMETERS], reader.read_record(path)


def find_step(directory: epath.PathLike, step: int | str | None = None) -> int:
    """The step of the checkpoint that `load_parameters` reads for the same arguments.

    Raises:
        FileNotFoundError: the directory is not that of a run, or has no such checkpoint.
    """
    return int(_find(directory, step).name)


def _find(directory: epath.PathLike, step: int | str | None) -> epath.Path:
    root = _checkpoints_of(directory)
    if not isinstance(step, str):
        return reader.find(root, step)
    if step != BEST:
        raise ValueError(f"step {step!r} is no checkpoint: give a number, or {BEST!r} for the best one")
    last = reader.find(root, None)  # refuses a directory without checkpoints
    scored = find_best(root)
    if scored is None:
        raise FileNotFoundError(f"{root}: no checkpoint has a score; the last one is of step {last.name}")
    return root / str(scored.step)


def _checkpoints_of(directory: epath.PathLike) -> epath.Path:
    """The directory of checkpoints of a run, from either the run's directory or that directory."""
    root = reader.absolute(directory)
    inside = root / reader.DIRECTORY
    return inside if reader.exists(inside) else root
