"""Whether a run may go on from a checkpoint: its record compared with the config of today.

Model and kind of optimiser must be the same, and the batches too unless their change is asked for. Every
other setting may change, such as a longer schedule, and is listed so that it can be shown.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from hicmae_jax.settings import recorded

# Scanned encoders have stacked parameters and Adam moments, which are other arrays in the checkpoint. The
# other settings of `execution` may change while a run goes on.
STACKED = "execution.scan_encoders"
# Whose updates the moments in the checkpoint are.
KIND = "optimizer.kind"
# What decides which clips a step sees.
BATCHES = ("seed", "batch", "data.weights", "data.stride", "data.shuffle_window")

Config = Mapping[str, Any]


def check_fits(record: Mapping[str, Any], config: Config) -> None:
    """Refuse a checkpoint of another model, or of another optimiser.

    Args:
        record: of the checkpoint, with `config`.
        config: nested dictionary of the settings that the run would go on with.

    Raises:
        ValueError: naming every such setting that differs.
    """
    differing = [
        line
        for name, line in _differences(record, config).items()
        if name in (STACKED, KIND) or name.startswith("model.")
    ]
    if differing:
        raise ValueError(
            f"the checkpoint does not fit the config: {'; '.join(differing)}; set it back, or begin another "
            "run in another directory"
        )


def check_same_batches(
    record: Mapping[str, Any], config: Config, data: Mapping[str, str], allow: bool = False
) -> None:
    """Refuse to go on with other batches than the run would have seen.

    Args:
        record: of the checkpoint, with `config` and `data`.
        config: as for `check_fits`.
        data: directory → fingerprint of the prepared sets, in the order of the config. A set that has only
            moved to another directory is the same.
        allow: go on all the same.

    Raises:
        ValueError: naming every setting that differs.
    """
    differences = _differences(record, config)
    differing = [differences[name] for name in BATCHES if name in differences]
    before, now = list(record["data"].values()), list(data.values())
    if before != now:
        differing.append(f"the data are {_listed(before)} in the checkpoint, {_listed(now)} now")
    if differing and not allow:
        raise ValueError(
            f"the run would go on with other batches: {'; '.join(differing)}; begin another run in another "
            "directory, or go on with --allow_changes"
        )


def changes(record: Mapping[str, Any], config: Config) -> list[str]:
    """Every setting that differs, a line each, to show when a run goes on.

    Args:
        record: of the checkpoint, with `config`.
        config: as for `check_fits`.
    """
    return list(_differences(record, config).values())


def _differences(record: Mapping[str, Any], config: Config) -> dict[str, str]:
    """Dotted name → what it was and is, of every setting that differs."""
    # As JSON keeps them: tuples become lists.
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
