"""The table of runs, for `runs.csv` and for reading."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from hicmae_jax.model import sizes
from hicmae_jax.settings import schema
from hicmae_jax.studies.report_runs import ReportedRun

COLUMNS = {
    "run": "name",
    "kind": "kind",
    "size": "size",
    "parameters": "parameters",
    "batch": "batch",
    "steps": "steps",
    "examples": "examples",
    "flops": "flops",
    "loss": "loss",
    "total": "total",
    "recall@5": "recall",
    "probe_uar": "uar",
    "goodput": "goodput",
    "state": "state",
    "unfit": "unfit",
}
"""Column → attribute of a run."""
OF_SIZE = ("encoder_dim", "encoder_heads", "encoder_depth", "decoder_dim", "decoder_heads", "skip_layers")
"""Fields of the model that a size chooses."""
WITHOUT_EFFECT = ("checkpoint.", "log.", "faults.")
"""Sections of settings that change nothing of what is learnt."""


def value(run: ReportedRun, column: str) -> Any:
    """The value of a run in a column of `COLUMNS`; None if it has none."""
    if column == "goodput":
        return run.goodput and run.goodput.share
    return getattr(run, COLUMNS[column])


def differing(runs: Sequence[ReportedRun]) -> dict[str, list[str]]:
    """The settings in which runs differ.

    Left out are settings that have a column, those that follow from the size, and those of logs, checkpoints
    and faults.

    Args:
        runs: the runs; of those that have not begun no setting is known.

    Returns:
        Dotted name → the value of every run, as a listing shows it; empty if it is not known.
    """
    known = [run.settings.values for run in runs if run.settings is not None]
    found = {}
    for name in known[0] if known else ():
        if name in COLUMNS or name.startswith(WITHOUT_EFFECT):
            continue
        shown = [
            "" if run.settings is None else schema.shown(run.settings.values.get(name, "")) for run in runs
        ]
        if len({one for run, one in zip(runs, shown, strict=True) if run.settings is not None}) > 1:
            found[name] = shown
    if all(follows_size(run) for run in runs if run.settings is not None):
        found = {name: of_runs for name, of_runs in found.items() if name not in _MODEL}
    return found


def follows_size(run: ReportedRun) -> bool:
    """Whether the model of a run that has begun has the widths and depths of its size."""
    assert run.settings is not None
    of_size = sizes.model_config(run.settings.size)
    return all(getattr(run.settings.model, field) == getattr(of_size, field) for field in OF_SIZE)


_MODEL = tuple(f"model.{field}" for field in OF_SIZE)


def as_csv(runs: Sequence[ReportedRun]) -> str:
    """The table as CSV, which `studies.laws` can read: a run that no law may be fitted to says why."""
    settings = differing(runs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *settings])
    for index, run in enumerate(runs):
        cells = ["" if (cell := value(run, column)) is None else cell for column in COLUMNS]
        writer.writerow([*cells, *(of_runs[index] for of_runs in settings.values())])
    return text.getvalue()


def shown(column: str, cell: Any) -> str:
    """A value as the report shows it; `–` for none.

    Args:
        column: one of `COLUMNS`.
        cell: value of the column.
    """
    if cell is None or cell == "":
        return "–"
    if column in ("parameters", "flops"):
        return amount(cell)
    if column in ("recall@5", "probe_uar", "goodput"):
        return f"{cell:.1%}"
    if column in ("loss", "total"):
        return f"{cell:.4f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def amount(number: float) -> str:
    """A large number with three digits and the letter of its power of thousand: `81.2 M`."""
    letters = ("", " k", " M", " G", " T", " P", " E", " Z", " Y")
    index = 0
    while abs(number) >= 999.5 and index < len(letters) - 1:
        number, index = number / 1000, index + 1
    return f"{number:.3g}{letters[index]}"
