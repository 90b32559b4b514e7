"""Puts the scores of the finished folds of a protocol together, in a table beside the paper's figures."""

import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.common.errors import typed_line
from data_pipeline.corpora.protocols import TASK, Protocol
from hicmae_jax.checkpoints.best import BEST
from hicmae_jax.evaluation.fold_markdown import markdown
from hicmae_jax.evaluation.fold_table import FoldResult, TableSettings, summarise
from hicmae_jax.runs import fold_figures, fold_scores
from hicmae_jax.runs.fold_scores import LAST, SCORES
from hicmae_jax.runs.folds_alike import fold_directory

TABLE = "table.md"


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
    if len({json.dumps(written["data"]) for written in about}) > 1:
        summary["flags"].append("the folds were not trained on the same data")
    summary["flags"] += sorted({f"left out: {line}" for written in about for line in written["left_out"]})
    table = markdown(summary)
    atomic_files.replace_text(directory / SCORES, json.dumps(summary, indent=1) + "\n")
    atomic_files.replace_text(directory / TABLE, table)
    if not protocol.regression:
        fold_figures.draw_folds(directory, results, about[0]["outputs"], title)
    return table


def read_fold(fold: epath.Path, protocol: Protocol, number: int) -> tuple[dict[str, Any], FoldResult] | None:
    """What `scores.json` of a fold says, and its test results; None if it is not finished."""
    if not (fold / SCORES).exists():
        return None
    counted = {}
    try:
        written = json.loads((fold / SCORES).read_text())
        for epoch in (LAST, BEST):
            with (fold / f"{epoch}.npz").open("rb") as file, np.load(file) as arrays:
                counted[epoch] = fold_scores.count(protocol, dict(arrays))
        found = written["protocol"]
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{fold}: its scores cannot be read ({typed_line(error)}): delete {SCORES} there, and the same "
            "command scores the fold again"
        ) from error
    if found != protocol.name:
        raise ValueError(f"{fold} holds scores of {found}: choose another directory")
    last, best = counted[LAST], counted[BEST]
    true = last.true if protocol.regression else last.true.argmax(-1)
    epoch_number = round(written[BEST]["epoch"])
    return written, FoldResult(number, last.names, last.units, true, last.scores, best.scores, epoch_number)


def read_finished_fold(directory: epath.PathLike, protocol: Protocol, number: int) -> FoldResult:
    """Test results of one fold in the directory of the folds.

    Raises:
        ValueError: the fold is not finished, or its files are damaged.
    """
    fold = fold_directory(epath.Path(directory), number)
    found = read_fold(fold, protocol, number)
    if found is None:
        raise ValueError(f"{fold} is not finished: run the same command again")
    return found[1]


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
