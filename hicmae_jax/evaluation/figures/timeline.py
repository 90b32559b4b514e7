"""What a model says of a video over time, one row of the figure for each face, with pictures of it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from hicmae_jax.evaluation.embedded_file import EmbeddedFile
from hicmae_jax.evaluation.figures import titles
from hicmae_jax.evaluation.figures.palette import COLOURS

MOST_FACES, MOST_CLASSES, MOST_PICTURES = 6, len(COLOURS) - 1, 12


def draw(
    found: EmbeddedFile, pictures: Sequence[np.ndarray | None], labels: Sequence[str], regression: bool
) -> Figure:
    """Draw a file's timeline.

    Of a fine-tuned model, the bars are the probabilities of the classes, or the lines its dimensions. Of a
    pre-training model, the lines are the cosine similarity of picture and sound at each layer, with a mark at
    the middle of each window.

    Args:
        found: the windows of a file.
        pictures: for each window uint8 [H, W, 3], or None without a picture.
        labels: names of the model's classes or dimensions; empty for features.
        regression: whether they are dimensions.
    """
    faces = found.faces[:MOST_FACES]
    figure = Figure(figsize=(10, 1.2 + 2.6 * len(faces)), layout="constrained")
    rows = figure.subplots(len(faces), 1, squeeze=False, sharex=True)[:, 0]
    for face, axes in zip(faces, rows, strict=True):
        part = found.of_face(face)
        shown = [picture for picture, number in zip(pictures, found.face, strict=True) if number == face]
        if labels and not regression:
            _draw_classes(axes, part, labels)
        else:
            _draw_lines(axes, part, labels)
        axes.set_xlim(found.begin.min(), found.end.max())
        _place_pictures(axes, part, shown)
        if len(found.faces) > 1:
            axes.set_ylabel(f"face {face}\n{axes.get_ylabel()}")
    rows[-1].set_xlabel("time, s")
    handles, names = rows[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=9)
    more = len(found.faces) - len(faces)
    titles.put(figure, f"{found.name} ({more} more faces)" if more else found.name)
    return figure


def _draw_classes(axes: Axes, part: EmbeddedFile, labels: Sequence[str]) -> None:
    scores = part.scores
    assert scores is not None
    order = np.argsort(-scores.mean(0), kind="stable")
    kept, rest = np.sort(order[:MOST_CLASSES]), order[MOST_CLASSES:]
    stacks = [(labels[number], scores[:, number], COLOURS[number % len(COLOURS)]) for number in kept]
    if len(rest):
        stacks.append(("others", scores[:, rest].sum(-1), "#DDDDDD"))
    left, width = _spans(part)
    bottom = np.zeros(len(left))
    for name, height, colour in stacks:
        axes.bar(left, height, width, bottom, align="edge", color=colour, label=name, linewidth=0)
        bottom += height
    axes.set(ylim=(0, 1), ylabel="probability")


def _draw_lines(axes: Axes, part: EmbeddedFile, labels: Sequence[str]) -> None:
    lines = {name: part.scores[:, k] for k, name in enumerate(labels)} if part.scores is not None else {}
    if part.scores is None:
        layers = sorted(int(name.removeprefix("video_")) for name in part.arrays if name.startswith("video_"))
        lines = {
            f"layer {layer}": _cosine(part.arrays[f"video_{layer}"], part.arrays[f"audio_{layer}"])
            for layer in layers
            if f"audio_{layer}" in part.arrays
        }
    for (name, values), colour in zip(lines.items(), COLOURS, strict=False):
        axes.plot(_middles(part), values, marker="o", markersize=3, color=colour, label=name)
    what = "similarity of\npicture and sound" if part.scores is None else "prediction"
    axes.set(ylabel=what if lines else "one modality,\nnothing to compare")
    axes.grid(alpha=0.3)


def _cosine(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    return (video * audio).sum(-1) / np.linalg.norm(video, axis=-1) / np.linalg.norm(audio, axis=-1)


def _middles(part: EmbeddedFile) -> np.ndarray:
    return (part.begin + part.end) / 2


def _spans(part: EmbeddedFile) -> tuple[np.ndarray, np.ndarray]:
    """Begin and width of the bar of each window; where windows overlap, they meet in the middle."""
    left, right, middle = part.begin.copy(), part.end.copy(), _middles(part)
    meet = part.begin[1:] <= part.end[:-1]
    left[1:][meet] = right[:-1][meet] = ((middle[1:] + middle[:-1]) / 2)[meet]
    return left, right - left


def _place_pictures(axes: Axes, part: EmbeddedFile, pictures: Sequence[np.ndarray | None]) -> None:
    """Put small pictures above the axes, at the times of their windows."""
    low, high = axes.get_xlim()
    free = low  # the time from which on there is room
    for time, picture in zip(_middles(part), pictures, strict=True):
        if picture is not None and time >= free:
            free = time + (high - low) / MOST_PICTURES
            box = AnnotationBbox(
                OffsetImage(picture, zoom=36 / len(picture)),
                (time, 1.0),
                xycoords=("data", "axes fraction"),
                box_alignment=(0.5, 0),
                frameon=False,
                pad=0.1,
            )
            axes.add_artist(box)
