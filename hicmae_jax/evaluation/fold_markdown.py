"""The table of a protocol as Markdown, from the dict of `fold_table.summarise`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hicmae_jax.evaluation.fold_table import CHECKPOINTS, MEAN, POOLED

MISSING = "–"
IN_LABEL_UNITS = ("MAE", "MSE", "RMSE")
"""Scores that are no percentages; they get a third decimal."""


def markdown(summary: Mapping[str, Any]) -> str:
    """Format the four figures of every score, the folds, and what a reader must know.

    Args:
        summary: from `fold_table.summarise`, or read from its JSON.

    Returns:
        Text that ends with a line break.
    """
    parts = [f"### {summary['title']}", _score_table(summary), _fold_rows(summary), _notes(summary)]
    return "\n\n".join(parts) + "\n"


def _score_table(summary: Mapping[str, Any]) -> str:
    figures = summary["figures"]
    heads = [f"{checkpoint} epoch, {joined}" for checkpoint in CHECKPOINTS for joined in (POOLED, MEAN)]
    rows = []
    for name in figures["last"][POOLED]:
        row = [name]
        for checkpoint in CHECKPOINTS:
            pooled, mean = (figures[checkpoint][joined][name] for joined in (POOLED, MEAN))
            ends = [_number(name, pooled[end]) for end in ("low", "high")]
            interval = "" if MISSING in ends else f" [{', '.join(ends)}]"
            spread = "" if mean["deviation"] is None else f" ± {_number(name, mean['deviation'])}"
            row += [_number(name, pooled["value"]) + interval, _number(name, mean["value"]) + spread]
        rows.append([*row, _number(name, summary["published"].get(name))])
    return _table(["score", *heads, "paper"], rows)


def _fold_rows(summary: Mapping[str, Any]) -> str:
    """A row for each fold with the scores that the paper reports; the first two if it reports none."""
    names = list(summary["published"]) or list(summary["figures"]["last"][POOLED])[:2]
    columns = [(name, checkpoint) for name in names for checkpoint in CHECKPOINTS]
    heads = ["fold", "clips", f"{summary['interval']['unit']}s", "best epoch"]
    rows = [
        [
            *(str(fold["fold"]), f"{fold['clips']:,}", str(fold["units"] or MISSING)),
            MISSING if fold["best_epoch"] is None else str(fold["best_epoch"]),
            *(_number(name, fold[checkpoint][name]) for name, checkpoint in columns),
        ]
        for fold in summary["folds"]
    ]
    return _table([*heads, *(f"{name}, {checkpoint}" for name, checkpoint in columns)], rows)


def _notes(summary: Mapping[str, Any]) -> str:
    interval = summary["interval"]
    lines = [
        f"Best epoch: {summary['chosen_by']}.",
        f"In brackets: {100 * interval['level']:g} % intervals of the pooled scores, {interval['draws']:,} "
        f"resamples of {summary['units']} {interval['unit']}s. After ±: standard deviation between folds; "
        "in their mean, each fold counts alike.",
        *(f"Attention: {flag}." for flag in summary["flags"]),
    ]
    for note in dict.fromkeys(interval["notes"].values()):
        names = [name for name, found in interval["notes"].items() if found == note]
        lines.append(f"Intervals of {', '.join(names)}: {note}.")
    return "\n".join(f"- {line}" for line in lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.3f}" if name.split()[0] in IN_LABEL_UNITS else f"{value:.2f}"
