"""What a model says of one file, window by window: its arrays on disk, and its mean."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from data_pipeline.common import atomic_files

_ABOUT = ("begin", "end", "face", "modality")


class Place(NamedTuple):
    """Which window of a file a row is about; see `EmbeddedFile`."""

    begin: float
    end: float
    face: int
    modality: str


class EmbeddedFile(NamedTuple):
    """What a model says of a file.

    Attributes:
        name: of the file, see `data_pipeline.media.inputs`.
        begin: float64[N], begin of each window after the picture's start, in s.
        end: float64[N], its end, in s.
        face: int32[N], number of the face.
        modality: str[N], what the window holds.
        arrays: name → float32[N, …], from `WindowModel`.
        notes: lines about what was read past.
    """

    name: str
    begin: np.ndarray
    end: np.ndarray
    face: np.ndarray
    modality: np.ndarray
    arrays: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()

    def of_face(self, face: int) -> "EmbeddedFile":
        """The windows of one face."""
        rows = self.face == face
        arrays = {name: values[rows] for name, values in self.arrays.items()}
        columns = (self.begin[rows], self.end[rows], self.face[rows], self.modality[rows])
        return EmbeddedFile(self.name, *columns, arrays, self.notes)

    @property
    def faces(self) -> list[int]:
        """The numbers of the faces."""
        return np.unique(self.face).tolist()

    @property
    def scores(self) -> np.ndarray | None:
        """float32[N, K] of a fine-tuned model; None for features."""
        return self.arrays.get("scores")


def joined(
    name: str,
    places: Sequence[Place],
    rows: Sequence[Mapping[str, np.ndarray]],
    notes: tuple[str, ...],
) -> EmbeddedFile:
    """Put the windows of a file in order.

    Args:
        name: of the file.
        places: of the windows, in any order.
        rows: what the model says of each. A row may lack an array, for example that of sound at the end of
            a video that is longer than its sound: it is NaN there.
        notes: lines about what was read past.
    """
    order = sorted(range(len(places)), key=lambda row: (places[row].face, places[row].begin))
    shapes = {key: value.shape for row in rows for key, value in row.items()}
    arrays = {
        key: np.stack([rows[row].get(key, np.full(shape, np.nan, np.float32)) for row in order])
        for key, shape in sorted(shapes.items())
    }
    begin, end, face, modality = zip(*(places[row] for row in order), strict=True)
    columns = (np.array(begin, float), np.array(end, float), np.array(face, np.int32), np.array(modality))
    return EmbeddedFile(name, *columns, arrays, notes)


def write(path: epath.Path, found: EmbeddedFile, labels: Sequence[str]) -> None:
    """Write an .npz whole or not at all, and make its directory.

    Args:
        path: of the file.
        found: its contents.
        labels: names of the columns of `scores`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {field: getattr(found, field) for field in _ABOUT} | dict(found.arrays)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, name=np.array(found.name), notes=_texts(found.notes), labels=_texts(labels), **content
    )
    with atomic_files.replacing(path) as partial:
        partial.write_bytes(buffer.getvalue())


def read(path: epath.Path) -> EmbeddedFile | None:
    """Read what `write` has written; None if there is no such file or it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as content:
            arrays = {key: content[key] for key in content.files}
        name, notes, _ = str(arrays.pop("name")), tuple(arrays.pop("notes").tolist()), arrays.pop("labels")
        about = {field: arrays.pop(field) for field in _ABOUT}
        return EmbeddedFile(name=name, arrays=arrays, notes=notes, **about)
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, KeyError, EOFError):
        return None


def _texts(lines: Sequence[str]) -> np.ndarray:
    return np.array(list(lines), dtype=f"<U{max(map(len, lines), default=1)}")
