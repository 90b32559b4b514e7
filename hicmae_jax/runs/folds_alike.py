"""Checks that a directory may hold the folds of a protocol, and that they differ in nothing but the fold.

One table reports all folds of a directory. So they have the same protocol, weights, model and recipe.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from data_pipeline.common import anywhere
from hicmae_jax.checkpoints.reader import DIRECTORY
from hicmae_jax.settings.finetune import SCHEMA, FinetuneSettings

PREFIX = "fold-"
MAY_DIFFER = (
    *("data.fold", "data.sets", "data.threads", "data.workers", "data.prefetch"),
    *("data.cache", "data.cache_gb"),
    *("size", "accumulate", "fsdp"),
)
"""Settings in which folds of one table may differ. `size` names a model, and `model.*` says which it is."""
SECTIONS_MAY_DIFFER = ("execution.", "checkpoint.", "log.", "scoring.", "faults.")


def fold_directory(directory: epath.Path, number: int) -> epath.Path:
    """Directory of the run of a fold."""
    return directory / f"{PREFIX}{number}"


def check_directory(directory: epath.Path) -> None:
    """Refuse a directory that is a run itself, or that holds something else than folds.

    Args:
        directory: directory of the folds, which need not exist.

    Raises:
        ValueError: one line: what is there, and what to give instead.
    """
    try:
        names = anywhere.names(directory)
    except NotADirectoryError:
        raise ValueError(f"{directory} is not a directory: give another one for the folds") from None
    if DIRECTORY in names:
        if directory.name.startswith(PREFIX):
            raise ValueError(f"{directory} is the run of one fold: give {directory.parent} for its folds")
        raise ValueError(f"{directory} is a run, which cannot hold folds: give a new directory")
    if names and not any(name.startswith(PREFIX) for name in names):
        raise ValueError(f"{directory} is not empty and holds no folds ({names[0]}, …): give a new directory")


def check_alike(config: FinetuneSettings, begun: Mapping[int, Mapping[str, Any]]) -> None:
    """Refuse settings with which another fold of the directory has not been trained.

    Args:
        config: settings of a fold.
        begun: number → settings by dotted name, of the folds of the directory that have begun.

    Raises:
        ValueError: one line with every setting that differs.
    """
    for number, values in begun.items():
        differing = [
            f"{name} is {_plain(values[name])!r} in fold {number}, {_plain(now)!r} in the config"
            for name, now in config.values.items()
            if name in values and _must_agree(name) and _plain(values[name]) != _plain(now)
        ]
        if differing:
            raise ValueError(
                f"the folds of a directory must be alike: {'; '.join(differing)}; set it back, give another "
                "directory, or go on with --allow_changes"
            )


def _must_agree(name: str) -> bool:
    return name in SCHEMA.entries and name not in MAY_DIFFER and not name.startswith(SECTIONS_MAY_DIFFER)


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return list(value) if isinstance(value, tuple) else value
