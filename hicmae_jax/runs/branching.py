"""Starts a new run from a checkpoint of another run, for example to decay the rate of a long stable run.

A branch ends with the same bits as a run that had the branch's length from the start. This requires that both
see the same batches and rates up to the checkpoint, so both are compared. With a stable schedule
(`optimizer.schedule = "wsd"`), runs of all lengths have the same rates until their decay starts. Cosines of
different lengths never have the same rates.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optax
from etils import epath

from data_pipeline.common.buckets import is_bucket
from hicmae_jax.checkpoints import checksums, reader
from hicmae_jax.checkpoints.damage import find_damage
from hicmae_jax.checkpoints.fetched import on_disk
from hicmae_jax.checkpoints.manager import DAMAGED
from hicmae_jax.checkpoints.reader import DIRECTORY
from hicmae_jax.checkpoints.store import open_store
from hicmae_jax.runs import resuming
from hicmae_jax.settings import recorded as recorded_config


@dataclasses.dataclass(frozen=True)
class Branch:
    """The checkpoint from which a new run starts.

    Attributes:
        source: directory of the other run.
        step: step of the checkpoint; None for the last checkpoint.
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
    """Copy a checkpoint into a new run that has no checkpoint yet. Only the first process calls this.

    Args:
        branch: the checkpoint to copy.
        directory: directory of the new run, on a disk or in a bucket.
        config: settings of the new run, from `PretrainSettings.to_dict`.
        data: directory → fingerprint of each prepared set of the new run.
        schedule: learning rates of the new run.
        steps_per_epoch: number of whole batches in the new run's data.
        allow: accept a checkpoint that was made with other batches or rates.

    Returns:
        One line that says what was copied; None if the run already has a checkpoint.

    Raises:
        ValueError: the checkpoint is damaged, or does not fit the settings of the new run.
        FileNotFoundError: there is no such run or checkpoint.
        OSError: the checkpoint cannot be copied.
    """
    source, root = epath.Path(branch.source), epath.Path(directory) / DIRECTORY
    if _is_same(source, epath.Path(directory)):
        raise ValueError(f"--branch_from={branch.source} is the run itself: give --run a new directory")
    if reader.exists(root) and reader.find_all(root):
        return None
    path = reader.find(source / DIRECTORY, branch.step)
    with on_disk(path) as here:
        if reason := find_damage(here):
            raise ValueError(
                f"{path}: the checkpoint of step {path.name} is damaged ({reason}); use another or a good "
                "copy"
            )
        _check_fits(path, reader.read_record(here), config, data, schedule, steps_per_epoch, allow)
        _copy(path, here, root)
    return f"branched from {path}"


def _is_same(one: epath.Path, other: epath.Path) -> bool:
    if is_bucket(one) or is_bucket(other):
        return os.fspath(one).rstrip("/") == os.fspath(other).rstrip("/")
    return os.path.realpath(one) == os.path.realpath(other)


def _check_fits(
    path: epath.Path,
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    data: Mapping[str, str],
    schedule: optax.Schedule,
    steps_per_epoch: int,
    allow: bool,
) -> None:
    resuming.check_fits(record, config)
    resuming.check_same_batches(record, config, data, allow)
    if not allow:
        # The rates do not depend on the platform, so any name will do.
        before = recorded_config.load(record["config"], "cpu").optimizer_config(steps_per_epoch)
        _check_same_rates(path, before.schedule(), schedule)


def _copy(path: epath.Path, here: epath.Path, root: epath.Path) -> None:
    """Copy a checkpoint, whose files are `here`, to the checkpoints of the new run."""
    step, store = int(path.name), open_store(root, root.parent / DAMAGED, lambda: None)
    with contextlib.closing(store):
        store.open()
        store.begin(step)
        part = Path(store.part(step))
        shutil.rmtree(part)
        shutil.copytree(here, part)
        if reason := checksums.check(part):
            raise ValueError(f"{part}: the copy of {path} is damaged ({reason}): see to the disk")
        store.publish(step)


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
