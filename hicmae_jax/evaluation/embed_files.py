"""Embeds any number of video and sound files: features, or emotions of a fine-tuned model, window by window.

::

    <output>/embed.json         the model and the settings
    <output>/files/<name>.npz   of each file: the windows, features and scores
    <output>/files/<name>.png   its timeline
    <output>/…                  tables over all files, see `embedding_tables`

A file whose .npz is there is not read again.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath
from tqdm import tqdm

from data_pipeline.media.inputs import Input
from hicmae_jax.evaluation import embedded_file
from hicmae_jax.evaluation.embedded_file import EmbeddedFile
from hicmae_jax.evaluation.window_batches import Collector
from hicmae_jax.evaluation.window_model import WindowModel
from hicmae_jax.evaluation.window_queue import Read, read_side_by_side

FILES = "files"

Draw = Callable[[EmbeddedFile, Sequence[np.ndarray | None], epath.Path], None]
"""Draws a timeline: the file, a small picture of each window, and where to write."""


def array_file(output: epath.Path, name: str) -> epath.Path:
    """Where the arrays of a file are written."""
    return output / FILES / f"{name}.npz"


def embed(
    inputs: Sequence[Input],
    read: Read,
    model: WindowModel,
    output: epath.Path,
    labels: Sequence[str],
    draw: Draw,
    threads: int,
    show_progress: bool = True,
) -> dict[str, str]:
    """Embed the files that have no arrays yet.

    Args:
        inputs: the files.
        read: reads the windows of one.
        model: the model.
        output: directory to write to.
        labels: names of the model's outputs.
        draw: draws a timeline.
        threads: files that are read at the same time.
        show_progress: draw a progress bar.

    Returns:
        Name of each file that cannot be used → why, in one line.

    Raises:
        OSError: a result cannot be written.
    """
    left = [each for each in inputs if embedded_file.read(array_file(output, each.name)) is None]
    broken: dict[str, str] = {}
    collector = Collector(model)
    progress = tqdm(
        total=len(inputs), initial=len(inputs) - len(left), unit="file", disable=not show_progress
    )
    stream = read_side_by_side(left, read, threads, held=2 * model.batch)
    with progress, contextlib.closing(stream):
        for item in itertools.chain(stream, [None]):
            ended = collector.take(item) if item is not None else collector.flush()
            for number, result in ended:
                name = left[number].name
                if isinstance(result, str):
                    broken[name] = result
                else:
                    _write(output, result.embedded(name), result.pictures(), labels, draw)
                progress.set_postfix_str(f"{collector.seconds / 60:.1f} min of video, {len(broken)} broken")
                progress.update()
    return broken


def _write(
    output: epath.Path,
    found: EmbeddedFile,
    pictures: Sequence[np.ndarray | None],
    labels: Sequence[str],
    draw: Draw,
) -> None:
    """Write the timeline, and last the arrays, which show that the file is done."""
    path = array_file(output, found.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(found, pictures, path.with_suffix(".png"))
    embedded_file.write(path, found, labels)
