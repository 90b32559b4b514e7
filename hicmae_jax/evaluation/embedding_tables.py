"""Tables over all embedded files, made anew from their arrays.

::

    <output>/files.csv          a line for each face of each file: seconds, windows, mean scores, notes
    <output>/scores.csv         of a fine-tuned model: a line for each window
    <output>/scores.json        the same, nested by file and face, with the mean of each face
    <output>/features.parquet   if asked for: a row for each window, with every array
    <output>/broken.txt         files that cannot be used, and why
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from data_pipeline.common import atomic_files
from hicmae_jax.evaluation.embedded_file import EmbeddedFile

FILES, SCORES, NESTED, FEATURES, BROKEN = (
    *("files.csv", "scores.csv", "scores.json", "features.parquet", "broken.txt"),
)
DECIMALS = 4

Files = Callable[[], Iterator[EmbeddedFile]]
"""Reads the files again, one at a time, because all of them may not fit into memory."""


def write(
    output: epath.Path,
    files: Files,
    labels: Sequence[str],
    regression: bool,
    broken: Mapping[str, str],
    parquet: bool = False,
) -> None:
    """Write the tables; each is whole or not there.

    Args:
        output: directory to write to.
        files: the files.
        labels: names of the model's classes or dimensions; empty for features.
        regression: whether they are dimensions.
        broken: name → why, of the files that cannot be used.
        parquet: whether to write `FEATURES` too.

    Raises:
        OSError: a table cannot be written.
    """
    chosen = [] if regression or not labels else ["emotion"]
    heads = ["file", "face", "begin", "end", "windows", *chosen, *labels, "notes"]
    _write_csv(output / FILES, heads, _faces(files(), labels, bool(chosen)))
    if labels:
        heads = ["file", "face", "begin", "end", "modality", *chosen, *labels]
        _write_csv(output / SCORES, heads, _windows(files(), labels, bool(chosen)))
        nested = {found.name: _nested(found, labels) for found in files()}
        atomic_files.replace_text(output / NESTED, json.dumps(nested, indent=1) + "\n")
    if parquet:
        _write_parquet(output / FEATURES, files)
    lines = [f"{name}\t{why}\n" for name, why in broken.items()]
    if lines or (output / BROKEN).exists():
        atomic_files.replace_text(output / BROKEN, "".join(lines))


def mean_scores(found: EmbeddedFile) -> np.ndarray | None:
    """float32[K], the mean over the windows of a file; None for features."""
    return None if found.scores is None else np.nanmean(found.scores, axis=0)


def _faces(files: Iterator[EmbeddedFile], labels: Sequence[str], named: bool) -> Iterator[list[Any]]:
    for found in files:
        for face in found.faces:
            of_face = found.of_face(face)
            place = [found.name, face, f"{of_face.begin.min():.2f}", f"{of_face.end.max():.2f}"]
            scores = _cells(mean_scores(of_face), labels, named)
            yield [*place, len(of_face.begin), *scores, "; ".join(found.notes)]


def _windows(files: Iterator[EmbeddedFile], labels: Sequence[str], named: bool) -> Iterator[list[Any]]:
    for found in files:
        assert found.scores is not None
        for row in range(len(found.begin)):
            times = f"{found.begin[row]:.2f}", f"{found.end[row]:.2f}"
            scores = _cells(found.scores[row], labels, named)
            yield [found.name, found.face[row], *times, found.modality[row], *scores]


def _cells(scores: np.ndarray | None, labels: Sequence[str], named: bool) -> list[str]:
    if scores is None:
        return []
    best = [labels[int(np.argmax(scores))]] if named else []
    return [*best, *(f"{value:.{DECIMALS}f}" for value in scores)]


def _nested(found: EmbeddedFile, labels: Sequence[str]) -> dict[str, Any]:
    def named(scores: np.ndarray | None) -> dict[str, float]:
        assert scores is not None
        return {label: round(float(value), DECIMALS) for label, value in zip(labels, scores, strict=True)}

    faces = []
    for face in found.faces:
        part = found.of_face(face)
        assert part.scores is not None
        windows = [
            {"begin": round(begin, 3), "end": round(end, 3), "modality": modality, "scores": named(scores)}
            for begin, end, modality, scores in zip(
                part.begin.tolist(), part.end.tolist(), part.modality.tolist(), part.scores, strict=True
            )
        ]
        faces.append({"face": face, "mean": named(mean_scores(part)), "windows": windows})
    return {"faces": faces, "notes": list(found.notes)}


def _write_csv(path: epath.Path, heads: Sequence[str], rows: Iterator[list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    atomic_files.replace_text(path, text.getvalue())


def _write_parquet(path: epath.Path, files: Files) -> None:
    """A row for each window; features that a window does not have are null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names: set[str] = set()
    for found in files():
        names.update(found.arrays)
    kinds = {"file": pa.string(), "face": pa.int32(), "begin": pa.float64(), "end": pa.float64()}
    arrays = {name: pa.list_(pa.float32()) for name in sorted(names)}
    schema = pa.schema([*kinds.items(), ("modality", pa.string()), *arrays.items()])
    with atomic_files.replacing(path) as partial, pq.ParquetWriter(str(partial), schema) as writer:
        for found in files():
            columns: dict[str, Any] = {
                "file": [found.name] * len(found.begin),
                "face": found.face,
                "begin": found.begin,
                "end": found.end,
                "modality": found.modality.tolist(),
            }
            for name, kind in arrays.items():
                values = found.arrays.get(name)
                rows = [None] * len(found.begin) if values is None else [_row(row) for row in values]
                columns[name] = pa.array(rows, kind)
            writer.write_table(pa.table(columns, schema))


def _row(values: np.ndarray) -> np.ndarray | None:
    return None if np.isnan(values).any() else values
