"""Computes windows in full batches over all files, and keeps the rows of each file until it is complete."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from data_pipeline.media.windows import Window
from hicmae_jax.evaluation import embedded_file
from hicmae_jax.evaluation.embedded_file import EmbeddedFile, Place
from hicmae_jax.evaluation.window_model import Modality, WindowModel, modality_of
from hicmae_jax.evaluation.window_queue import Item

THUMBNAIL = 40
"""Side of the small pictures in a timeline, in pixels."""
_Row = tuple[Place, dict[str, np.ndarray], np.ndarray | None]


@dataclasses.dataclass
class Growing:
    """What is known of a file so far.

    Attributes:
        rows: of each computed window its place, what the model says, and a small picture.
        waiting: windows that are not computed yet.
        end: the last item of the file; None while it is read.
        lacking: a modality that the model needs and a window did not have; empty if none.
    """

    rows: list[tuple[Place, dict[str, np.ndarray], np.ndarray | None]] = dataclasses.field(
        default_factory=list
    )
    waiting: int = 0
    end: Item | None = None
    lacking: str = ""

    def error(self) -> str | None:
        """Why there is nothing to say of the file, once it was read to its end; None if there is."""
        if self.end is not None and self.end.error:
            return self.end.error
        if self.rows:
            return None
        if self.lacking:
            return f"the model needs {self.lacking}, which this file does not have"
        return "there is no window in it: no face, or too short a sound"

    def embedded(self, name: str) -> EmbeddedFile:
        """The windows in order, under the name of the file."""
        places, rows, _ = zip(*self.rows, strict=True)
        return embedded_file.joined(name, places, rows, self.end.notes if self.end else ())

    def pictures(self) -> list[np.ndarray | None]:
        """The small pictures, in the order of `embedded`."""
        ordered = sorted(self.rows, key=lambda row: (row[0].face, row[0].begin))
        return [picture for _, _, picture in ordered]


class Collector:
    """Computes windows in full batches over all files, and hands a file out when its last one is computed.

    Attributes:
        seconds: of all files handed out.
    """

    def __init__(self, model: WindowModel) -> None:
        self.seconds = 0.0
        self._model = model
        self._waiting: dict[Modality, list[tuple[int, Window]]] = defaultdict(list)
        self._files: dict[int, Growing] = defaultdict(Growing)

    def take(self, item: Item) -> Iterator[tuple[int, Growing | str]]:
        """Take the next item, and yield every file that is complete.

        Yields:
            The number of the file, and its rows; or, in one line, why there is nothing to say of it.
        """
        file = self._files[item.number]
        if item.window is None:
            file.end = item
            if item.error:
                self._drop_waiting(item.number)
        else:
            modality = modality_of(item.window)
            if lacking := self._model.lacking(modality):
                file.lacking = lacking
            else:
                file.waiting += 1
                self._waiting[modality].append((item.number, item.window))
                if len(self._waiting[modality]) == self._model.batch:
                    self._compute(modality)
        yield from self._complete()

    def flush(self) -> Iterator[tuple[int, Growing | str]]:
        """Compute what waits, and yield as `take` does."""
        for modality in self._waiting:
            self._compute(modality)
        yield from self._complete()

    def _complete(self) -> Iterator[tuple[int, Growing | str]]:
        for number in [n for n, file in self._files.items() if file.end is not None and not file.waiting]:
            file = self._files.pop(number)
            error = file.error()
            if error is None:
                self.seconds += max(place.end for place, _, _ in file.rows)
            yield number, file if error is None else error

    def _drop_waiting(self, number: int) -> None:
        self._files[number].waiting = 0
        for waiting in self._waiting.values():
            waiting[:] = [each for each in waiting if each[0] != number]

    def _compute(self, modality: Modality) -> None:
        waiting = self._waiting[modality]
        if not waiting:
            return
        arrays = self._model([window for _, window in waiting])
        for row, (number, window) in enumerate(waiting):
            place = Place(window.begin, window.end, window.face, modality)
            values = {name: array[row] for name, array in arrays.items()}
            self._files[number].rows.append((place, values, _thumbnail(window)))
            self._files[number].waiting -= 1
        waiting.clear()


def _thumbnail(window: Window) -> np.ndarray | None:
    """A small picture of the middle of a window; None without a picture."""
    if window.frames is None:
        return None
    frame = window.frames[len(window.frames) // 2]
    step = max(1, len(frame) // THUMBNAIL)
    return frame[::step, ::step].copy()
