"""A new run that goes on from another's checkpoint: one long stable schedule, decays of many lengths.

A branch is the run that it would have been with its own length from the start, bit for bit. That needs the
same batches and the same rates so far, which are compared; a stable schedule (`optimizer.schedule = "wsd"`)
has them until its decay begins, a cosine of another length never.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import optax
from etils import epath

from hicmae_jax.checkpoints import checksums, reader
from hicmae_jax.checkpoints.manager import PARTIAL
from hicmae_jax.checkpoints.reader import DIRECTORY
from hicmae_jax.runs import resuming
from hicmae_jax.settings import recorded as recorded_config


@dataclasses.dataclass(frozen=True)
class Branch:
    """Where a new run comes from.

    Attributes:
        source: directory of the other run.
        step: of its checkpoint; None for the last.
    """

    source: str
    step: int | None = None


def begin(
    branch: Branch,
    directory: epath.PathLike,
    config: Mapping[str, Any],
    data: Mapping[str, str],
    schedule: optax.Schedule,
    steps_per_epoch: int,
    allow: bool = False,
) -> str | None:
    """Copy the checkpoint to a run that has none yet, for it to go on from; by one process.

    Args:
        branch: where from.
        directory: of the new run, on a local or mounted disk.
        config: the new run's, as `PretrainSettings.to_dict` gives it.
        data: directory → fingerprint of its prepared sets.
        schedule: its rates.
        steps_per_epoch: whole batches in its data.
        allow: take the checkpoint although batches or rates so far would have been others.

    Returns:
        What was done, in a line; None if the run has begun before.

    Raises:
        ValueError: the checkpoint is damaged, or was not made as the new run's would have been.
        FileNotFoundError: there is no such run or checkpoint.
        OSError: it cannot be copied.
    """
    source, root = epath.Path(branch.source), epath.Path(directory) / DIRECTORY
    if os.path.realpath(source) == os.path.realpath(directory):
        raise ValueError(f"--branch_from={branch.source} is the run itself: give --run a new directory")
    if root.exists() and reader.find_all(root):
        return None
    path = reader.find(source / DIRECTORY, branch.step)
    if reason := checksums.check(path):
        raise ValueError(
            f"{path}: the checkpoint of step {path.name} is damaged ({reason}); use another or a good copy"
        )
    record = reader.read_record(path)
    resuming.check_fits(record, config)
    resuming.check_same_batches(record, config, data, allow)
    if not allow:
        # Rates are the same on every platform.
        before = recorded_config.load(record["config"], "cpu").optimizer_config(steps_per_epoch)
        _check_same_rates(path, before.schedule(), schedule)
    partial = root / f"{path.name}{PARTIAL}"
    if partial.exists():
        partial.rmtree()
    shutil.copytree(path, partial)
    if reason := checksums.check(partial):
        raise ValueError(f"{partial}: the copy of {path} is damaged ({reason}): see to the disk")
    partial.rename(root / path.name)
    checksums.sync(root)
    return f"branched from {path}"


def _check_same_rates(path: epath.Path, before: optax.Schedule, now: optax.Schedule) -> None:
    steps = np.arange(int(path.name))
    there, here = np.asarray(before(steps)), np.asarray(now(steps))
    differing = np.flatnonzero(there != here)
    if differing.size:
        first = differing[0]
        raise ValueError(
            f"{path}: its rates were not those of the config: {there[first]:.6g} at step {first} instead of "
            f"{here[first]:.6g}; take a checkpoint of step {first} or before, or go on with --allow_changes"
        )
