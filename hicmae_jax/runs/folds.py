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
from hicmae_jax.runs import finetune, folds_alike, resuming
from hicmae_jax.runs.fold_report import TABLE, write_report
from hicmae_jax.runs.folds_alike import fold_directory
from hicmae_jax.runs.mirror import files_of
from hicmae_jax.runs.unseen_tests import check_weights
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
        directory: directory of the folds, on a disk or in a bucket.
        chosen: numbers of the folds, or `all`.
        platform: of the devices, as `chips.platform` names it.
        allow_changes: see `finetune.run`; folds may then differ in their settings too.
        show_progress: draw progress bars.
        stop_signals: see `finetune.run`.

    Raises:
        ValueError: no such fold, a directory that is not one of these folds, folds that are not alike, or
            weights that may have seen test clips; otherwise as `finetune.run`, and so are the other errors.
    """
    agreement.check_alike(folds={"directory": str(directory), "folds": list(chosen)})
    with agreement.all_or_none():
        folds_alike.check_directory(directory)
        values = settings.SCHEMA.read(config)
        protocol = protocols.protocol(values["data.protocol"])
        runs = _settle(values, directory, _numbers(chosen, protocol), platform, allow_changes)
    for number, (fold_config, encoders) in runs.items():
        fold = fold_directory(directory, number)
        finetune.run(fold_config, fold, encoders, allow_changes, show_progress, stop_signals)
    with agreement.all_or_none():
        if jax.process_index() == 0:
            title = f"{protocol.name}: {_described(fold_config.values)}"
            with files_of(directory) as files:
                print(write_report(files, protocol, title), flush=True)
            print(f"wrote     {directory / TABLE}", flush=True)


def _settle(
    values: Mapping[str, Any], directory: epath.Path, numbers: Sequence[int], platform: str, allow: bool
) -> dict[int, tuple[FinetuneSettings, Encoders | None]]:
    """The settings of each fold, and the weights that it begins with, if it has not begun.

    All folds begin with the same checkpoint, even if its run has made others since the first fold began.
    """
    begun = _begun(directory, protocols.protocol(values["data.protocol"]))
    origin = next(iter(begun.values()), {})
    same = origin.get("initial.weights") == values["initial.weights"]
    if same and values["initial.step"] is None:
        values = {**values, **{name: origin[name] for name in ("initial.step", "initial.best")}}
    encoders = None
    if values["initial.weights"] and not set(numbers) <= set(begun):
        encoders = load_encoders(values["initial.weights"], values["initial.step"], values["initial.best"])
        values = {**values, "initial.step": encoders.step, "initial.best": False}
    runs = {}
    for number in numbers:
        mine = None if number in begun else encoders
        model = None if mine is None else mine.config
        fold = {**values, "data.fold": number}
        settled = settings.from_config_dict(fold, platform, model, begun.get(number))
        if mine is not None:
            check_weights(settled.data, mine.origin, mine.tuned)
        if not allow:
            others = {other: named for other, named in begun.items() if other != number}
            folds_alike.check_alike(settled, others)
        runs[number] = settled, mine
    return runs


def _begun(directory: epath.Path, protocol: protocols.Protocol) -> dict[int, Mapping[str, Any]]:
    """Number → settings by dotted name, of the folds that have begun."""
    found = {
        number: resuming.begun_settings(fold_directory(directory, number))
        for number in range(1, protocol.folds + 1)
    }
    return {number: named for number, named in found.items() if named is not None}


def _described(values: Mapping[str, Any]) -> str:
    """In words, which model was trained how."""
    weights = values["initial.weights"]
    step = "" if values["initial.step"] is None else f", step {values['initial.step']:,}"
    origin = f"from {weights}{step}" if weights else f"{values['size']} from scratch"
    mode = "" if values["tuning.mode"] == "full" else f", {values['tuning.mode']}"
    share = values["data.labels_share"]
    labels = "" if share == 1 else f", {share:.0%} of the labels"
    return f"{values['finetune.modality']}, {origin}{mode}{labels}"


def _numbers(chosen: Sequence[str], protocol: protocols.Protocol) -> list[int]:
    if not chosen:
        raise ValueError("--folds is empty: give numbers of folds, or all")
    if list(chosen) == [ALL]:
        return list(protocol.tested_folds)
    known = [str(number) for number in protocol.tested_folds]
    for number in chosen:
        if number not in known:
            raise ValueError(
                f"{protocol.name} has no fold {number}: its folds are {', '.join(known)}, or all"
            )
    return [int(number) for number in chosen]
