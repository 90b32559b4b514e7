"""Matrices of confusion: all folds together, and each fold (paper figure 10)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hicmae_jax.evaluation.figures import titles

MOST_WITH_NUMBERS = 16
"""More classes get a colour alone: numbers would be too small."""
COLUMNS = 3
ABSENT = "#d9d9d9"  # a row without clips
COLOUR_MAP = "Blues"


def draw(matrices: Mapping[str, np.ndarray], classes: Sequence[str], title: str) -> Figure:
    """Draw matrices of confusion, coloured by the share of each row and with shares and counts as numbers.

    Args:
        matrices: heading, such as `all folds` or `fold 1` → int[K, K] counts, truth in rows.
        classes: names of the K classes.
        title: of the figure.

    Raises:
        ValueError: there is no matrix, or one has another size.
    """
    size = len(classes)
    for heading, matrix in matrices.items():
        if np.shape(matrix) != (size, size):
            raise ValueError(
                f"{heading}: a matrix {np.shape(matrix)} for {size} classes, expected {size, size}"
            )
    if not matrices:
        raise ValueError("no matrix of confusion to draw")
    columns = min(COLUMNS, len(matrices))
    rows = -(-len(matrices) // columns)
    side = 1.1 + (0.62 * size if size <= MOST_WITH_NUMBERS else 0.2 * size)
    figure = Figure(figsize=(side * columns + 0.8, (side + 0.1) * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    shares = [_shares(np.asarray(matrix)) for matrix in matrices.values()]
    highest = 10 * np.ceil(max(10.0, *(np.nanmax(x, initial=0) for x in shares)) / 10)
    for axes, (heading, matrix), of_rows in zip(panels, matrices.items(), shares):
        _draw_matrix(axes, np.asarray(matrix), of_rows, classes, heading, highest)
    for axes in panels[len(matrices) :]:
        axes.set_axis_off()
    bar = figure.colorbar(panels[0].images[0], ax=list(panels), shrink=0.7, aspect=40, pad=0.01)
    below = "; the number below: clips" if size <= MOST_WITH_NUMBERS else ""
    bar.set_label(f"share of the true class in %{below}")
    titles.put(figure, title, 14)
    return figure


def _shares(matrix: np.ndarray) -> np.ndarray:
    """Share of each cell in its row in %; NaN in a row without clips."""
    totals = matrix.sum(1, keepdims=True)
    return np.where(totals > 0, 100 * matrix / np.maximum(totals, 1), np.nan)


def _draw_matrix(
    axes: Axes, matrix: np.ndarray, shares: np.ndarray, classes: Sequence[str], heading: str, highest: float
) -> None:
    axes.set_facecolor(ABSENT)
    axes.imshow(shares, cmap=COLOUR_MAP, vmin=0, vmax=highest)
    size = len(classes)
    small = size > MOST_WITH_NUMBERS
    font = 6 if small else 9
    upright = small or max(map(len, classes)) > 6
    axes.set_xticks(range(size), classes, rotation=90 if upright else 0, fontsize=font)
    axes.set_yticks(range(size), classes, fontsize=font)
    axes.set(xlabel="predicted", ylabel="true")
    accuracy = 100 * np.trace(matrix) / max(matrix.sum(), 1)
    axes.set_title(f"{heading}: {matrix.sum():,} clips, {accuracy:.1f} % right", fontsize=11)
    if small:
        return
    for i in range(size):
        for j in range(size):
            text = "–" if np.isnan(shares[i, j]) else f"{shares[i, j]:.0f}\n{matrix[i, j]:,}"
            colour = "white" if shares[i, j] > 0.55 * highest else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour, linespacing=0.95)
