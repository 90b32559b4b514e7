"""Puts the scores of the finished folds of a protocol together, in a table beside the paper's figures."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora.protocols import TASK, Protocol
from hicmae_jax.checkpoints.best import BEST
from hicmae_jax.evaluation.fold_markdown import markdown
from hicmae_jax.evaluation.fold_table import FoldResult, TableSettings, summarise
from hicmae_jax.runs import fold_figures, fold_scores
from hicmae_jax.runs.fold_scores import LAST, SCORES

TABLE = "table.md"


def fold_directory(directory: epath.Path, number: int) -> epath.Path:
    """Directory of the run of a fold."""
    return directory / f"fold-{number}"


def write_report(directory: epath.Path, protocol: Protocol, title: str) -> str:
    """Write the scores of all finished folds.

    Args:
        directory: directory of the folds.
        protocol: of the data set.
        title: heading of the table.

    Returns:
        The table, in Markdown.

    Raises:
        ValueError: no fold is finished, or the files of one are damaged.
    """
    found = {n: read_fold(fold_directory(directory, n), protocol, n) for n in protocol.tested_folds}
    finished = {number: read for number, read in found.items() if read is not None}
    if not finished:
        raise ValueError(f"{directory}: no fold is finished")
    about = [written for written, _ in finished.values()]
    results = [result for _, result in finished.values()]
    summary = summarise(results, _settings(protocol, title, about[0]))
    summary["flags"] += sorted({line for written in about for line in written["flags"]})
    summary["flags"] += sorted({f"left out: {line}" for written in about for line in written["left_out"]})
    table = markdown(summary)
    atomic_files.publish_text(json.dumps(summary, indent=1) + "\n", directory, SCORES)
    atomic_files.publish_text(table, directory, TABLE)
    if not protocol.regression:
        fold_figures.draw_folds(directory, results, about[0]["outputs"], title)
    return table


def read_fold(fold: epath.Path, protocol: Protocol, number: int) -> tuple[dict[str, Any], FoldResult] | None:
    """What `scores.json` of a fold says, and its test results; None if it is not finished."""
    if not fold_scores.are_complete(fold):
        return None
    written = json.loads((fold / SCORES).read_text())
    if written["protocol"] != protocol.name:
        raise ValueError(f"{fold} holds scores of {written['protocol']}: choose another directory")
    counted = {}
    for epoch in (LAST, BEST):
        with (fold / f"{epoch}.npz").open("rb") as file, np.load(file) as arrays:
            counted[epoch] = fold_scores.count(protocol, dict(arrays))
    last, best = counted[LAST], counted[BEST]
    true = last.true if protocol.regression else last.true.argmax(-1)
    epoch_number = round(written[BEST]["epoch"])
    return written, FoldResult(number, last.names, last.units, true, last.scores, best.scores, epoch_number)


def _settings(protocol: Protocol, title: str, written: dict[str, Any]) -> TableSettings:
    known: Sequence[int | None] = protocol.fold_clips or [None] * protocol.folds
    by_task = protocol.averaged_over == TASK
    return TableSettings(
        title=title,
        outputs=tuple(written["outputs"]),
        regression=protocol.regression,
        folds={number: None if by_task else known[number - 1] for number in protocol.tested_folds},
        chosen_by=written["selection"],
        unit="session" if protocol.fold_by == "session" else "speaker",
        published=protocol.published,
    )
