"""Runs the folds of a protocol one after the other, and puts their scores together.

::

    <directory>/fold-1/        the run of a fold, see `finetune`
    <directory>/table.md       the scores of all finished folds beside the paper's
    <directory>/scores.json    the same for programs
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from data_pipeline.corpora import protocols
from hicmae_jax.hosts import agreement
from hicmae_jax.runs import finetune, resuming
from hicmae_jax.runs.fold_report import TABLE, fold_directory, write_report
from hicmae_jax.settings import finetune as settings
from hicmae_jax.settings.finetune import FinetuneSettings
from hicmae_jax.supervision.signals import StopSignals
from hicmae_jax.weights.encoders import Encoders, load_encoders

ALL = "all"


def run(
    config: ConfigDict | Mapping[str, Any],
    directory: epath.Path,
    chosen: Sequence[str],
    platform: str,
    allow_changes: bool = False,
    show_progress: bool = True,
    stop_signals: StopSignals | None = None,
) -> None:
    """Fine-tune and score folds; a finished fold is skipped.

    Args:
        config: settings of the runs, from `get_config` of a recipe; its fold is replaced.
        directory: directory of the folds.
        chosen: numbers of the folds, or `all`.
        platform: of the devices, as `chips.platform` names it.
        allow_changes: see `finetune.run`.
        show_progress: draw progress bars.
        stop_signals: see `finetune.run`.

    Raises:
        ValueError: no such fold; otherwise as `finetune.run`, and so are the other errors.
    """
    values = settings.SCHEMA.read(config)
    with agreement.all_or_none():
        protocol = protocols.protocol(values["data.protocol"])
        numbers = _numbers(chosen, protocol)
    for number in numbers:
        fold = fold_directory(directory, number)
        with agreement.all_or_none():
            fold_config, encoders = _settle({**values, "data.fold": number}, fold, platform)
        finetune.run(fold_config, fold, encoders, allow_changes, show_progress, stop_signals)
    if jax.process_index() == 0:
        print(write_report(directory, protocol, f"{protocol.name}: {_described(values)}"), flush=True)
        print(f"wrote     {directory / TABLE}", flush=True)


def _settle(
    values: Mapping[str, Any], fold: epath.Path, platform: str
) -> tuple[FinetuneSettings, Encoders | None]:
    """The settings of a fold, and the weights that it begins with, if it has not begun."""
    begun = resuming.begun_settings(fold)
    encoders = None
    if begun is None and values["initial.weights"]:
        encoders = load_encoders(values["initial.weights"], values["initial.step"], values["initial.best"])
    model = None if encoders is None else encoders.config
    return settings.from_config_dict(values, platform, model, begun), encoders


def _described(values: Mapping[str, Any]) -> str:
    """In words, which model was trained how."""
    weights = values["initial.weights"]
    origin = f"from {weights}" if weights else f"{values['size']} from scratch"
    mode = "" if values["tuning.mode"] == "full" else f", {values['tuning.mode']}"
    share = values["data.labels_share"]
    labels = "" if share == 1 else f", {share:.0%} of the labels"
    return f"{values['finetune.modality']}, {origin}{mode}{labels}"


def _numbers(chosen: Sequence[str], protocol: protocols.Protocol) -> list[int]:
    if list(chosen) == [ALL]:
        return list(protocol.tested_folds)
    known = [str(number) for number in protocol.tested_folds]
    for number in chosen:
        if number not in known:
            raise ValueError(
                f"{protocol.name} has no fold {number}: its folds are {', '.join(known)}, or all"
            )
    return [int(number) for number in chosen]
