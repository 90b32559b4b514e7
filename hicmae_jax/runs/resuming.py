"""Checks whether a run may resume from a checkpoint: compares the checkpoint's record with the config.

The model, the kind of optimiser and, in fine-tuning, the initial weights and the fold must be the same. The
batches must be the same too, unless the user allows the change. Every other setting may change, for example
to a longer schedule; `changes` lists all changes for the user.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from flax.traverse_util import flatten_dict

from data_pipeline.common import anywhere
from data_pipeline.common.buckets import PATIENCE_AT_FIRST, is_bucket
from hicmae_jax.checkpoints import reader
from hicmae_jax.settings import recorded

# Scanned encoders stack their parameters and Adam moments, so their checkpoints hold different arrays. The
# other settings of `execution` may change when a run resumes.
STACKED = "execution.scan_encoders"
# The optimiser whose moments the checkpoint holds.
KIND = "optimizer.kind"
# What a fine-tuning run is: its classes and test clips, its weights, and which arrays its state holds.
FINETUNING = (
    *("data.protocol", "data.fold", "initial.weights", "initial.step", "initial.best"),
    *("finetune.modality", "finetune.feature_fusion", "tuning.mode"),
)
# The settings that decide which clips each step sees.
BATCHES = (
    *("seed", "batch", "data.weights", "data.temperature", "data.share"),
    *("data.stride", "data.shuffle_window"),
)
# Those that do so in fine-tuning, besides.
FINETUNING_BATCHES = (
    *("data.other_protocols", "data.selection", "data.validation_share", "data.labels_share"),
    *("data.balanced", "data.randaugment"),
)

# Key of the record of imported weights, with the SHA-256 of their file.
IMPORTED = "imported"

Config = Mapping[str, Any]


def begun_settings(directory: epath.PathLike) -> Config | None:
    """The settings of the run in a directory, by dotted name; None if it has no readable checkpoint.

    Args:
        directory: directory of the run, which need not exist.

    Raises:
        OSError: the bucket cannot be read.
        ImportError: the package for this kind of bucket is missing.
    """
    root = reader.absolute(directory) / reader.DIRECTORY
    if is_bucket(root):
        anywhere.names(root, PATIENCE_AT_FIRST)
    elif not root.is_dir():
        return None
    for _, path in sorted(reader.find_all(root).items(), reverse=True):
        try:
            return recorded.completed(reader.read_record(path)["config"])
        except ValueError:
            continue  # a damaged one is reported and set aside when the run resumes
    return None


def check_fits(record: Mapping[str, Any], config: Config) -> None:
    """Refuse a checkpoint of another model or optimiser, or of a fine-tuning run of another kind.

    Args:
        record: the checkpoint's record, with the key `config`.
        config: settings of the run that would resume, as a nested dictionary.

    Raises:
        ValueError: names every such setting that differs.
    """
    differing = [
        line
        for name, line in _differences(record, config).items()
        if name in (STACKED, KIND, *FINETUNING) or name.startswith("model.")
    ]
    if differing:
        raise ValueError(
            f"the checkpoint does not fit the config: {'; '.join(differing)}; set it back, or begin another "
            "run in another directory"
        )


def check_same_batches(
    record: Mapping[str, Any], config: Config, data: Mapping[str, str], allow: bool = False
) -> None:
    """Refuse a checkpoint if the resumed run would see other batches.

    Any batches may follow imported weights (see `imported`), which no batch of a run has changed.

    Args:
        record: the checkpoint's record, with the keys `config` and `data`.
        config: as for `check_fits`.
        data: directory → fingerprint of each prepared set, in the order of the config. Only fingerprints are
            compared, so a set may move to another directory.
        allow: accept other batches.

    Raises:
        ValueError: names every setting that differs.
    """
    if IMPORTED in record:
        return
    differences = _differences(record, config)
    differing = [differences[name] for name in (*BATCHES, *FINETUNING_BATCHES) if name in differences]
    before, now = list(record["data"].values()), list(data.values())
    if before != now:
        differing.append(f"the data are {_listed(before)} in the checkpoint, {_listed(now)} now")
    if differing and not allow:
        raise ValueError(
            f"the run would go on with other batches: {'; '.join(differing)}; begin another run in another "
            "directory, or go on with --allow_changes"
        )


def changes(record: Mapping[str, Any], config: Config) -> list[str]:
    """Every setting that differs, one line each, to show to the user when a run resumes.

    Args:
        record: the checkpoint's record, with the key `config`.
        config: as for `check_fits`.
    """
    return list(_differences(record, config).values())


def _differences(record: Mapping[str, Any], config: Config) -> dict[str, str]:
    """Dotted name of each setting that differs → one line with its value then and now."""
    # Through JSON and back, like the record: tuples become lists.
    now = flatten_dict(json.loads(json.dumps(config)), sep=".")
    before = recorded.completed(record["config"])
    before = {name: value for name, value in before.items() if name in now or name not in recorded.SINCE}
    absent = object()

    def shown(value: Any) -> str:
        return "absent" if value is absent else repr(value)

    pairs = {name: (before.get(name, absent), now.get(name, absent)) for name in {**before, **now}}
    return {
        name: f"{name} is {shown(was)} in the checkpoint, {shown(is_now)} in the config"
        for name, (was, is_now) in pairs.items()
        if was != is_now
    }


def _listed(fingerprints: Sequence[str]) -> str:
    return ", ".join(fingerprints) or "none"
