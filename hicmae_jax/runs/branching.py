"""A new run that starts from a checkpoint of another run, such as a decay of a long run with a stable rate.

A branch ends bit for bit as a run that had its length from the start. For that, the batches and the rates up
to the checkpoint must be the same, so both are compared. A stable schedule (`optimizer.schedule = "wsd"`) has
the same rates until its decay starts; cosines of different lengths never do.
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
        step: of the checkpoint; None for the last.
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
    """Copy the checkpoint to a run that has none yet; only the first process calls this.

    Args:
        branch: the checkpoint to copy.
        directory: of the new run, on a local or mounted disk.
        config: the new run's, as `PretrainSettings.to_dict` gives it.
        data: directory → fingerprint of its prepared sets.
        schedule: its rates.
        steps_per_epoch: whole batches in its data.
        allow: take the checkpoint even if the batches or rates so far were others.

    Returns:
        What was done, in one line; None if the run has a checkpoint already.

    Raises:
        ValueError: the checkpoint is damaged, or the new run would have made another one.
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
