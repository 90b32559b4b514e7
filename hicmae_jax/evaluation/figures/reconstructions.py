"""Reconstructed clips beside their originals, one row for each contender."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hicmae_jax.evaluation.reconstruction import ZERO, Picture

FRAMES_SHOWN = 4
GAP = 0.15  # inches
HIDDEN = 0.75  # grey level of what is masked


def draw_reconstructions(blocks: Mapping[str, Mapping[str, Picture]], title: str) -> Figure:
    """Draw originals, masked inputs and every contender's reconstruction: frames and a spectrogram in a row.

    Args:
        blocks: heading, such as `75 % of video masked` → name of a row, `original` and `masked` first →
            pictures of the same clips, NumPy arrays. Blocks are side by side, clips one below the other.
        title: of the figure.
    """
    first = next(iter(blocks.values()))
    names, clips = list(first), len(first["original"].video)
    shown = np.linspace(0, first["original"].video.shape[1] - 1, FRAMES_SHOWN).round().astype(int)
    # In inches; a frame takes one. Narrow columns and rows separate blocks and clips.
    widths = ([1.0] * FRAMES_SHOWN + [2.0, GAP]) * len(blocks)
    heights = ([1.0] * len(names) + [GAP]) * clips
    left, top = 1.0, 0.75
    width, height = left + sum(widths), top + sum(heights)
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=14, y=1 - 0.12 / height, va="top")
    grid = figure.add_gridspec(
        len(heights),
        len(widths),
        width_ratios=widths,
        height_ratios=heights,
        left=left / width,
        right=1,
        top=1 - top / height,
        bottom=0,
        wspace=0.04,
        hspace=0.04,
    )
    for column, (heading, rows) in enumerate(blocks.items()):
        begin = column * (FRAMES_SHOWN + 2)
        middle = (left + sum(widths[:begin]) + (FRAMES_SHOWN + 2) / 2) / width
        figure.text(middle, 1 - (top - 0.08) / height, heading, fontsize=12, ha="center", va="bottom")
        for clip, (number, name) in itertools.product(range(clips), enumerate(names)):
            row = clip * (len(names) + 1) + number
            panels = [figure.add_subplot(grid[row, begin + i]) for i in range(FRAMES_SHOWN + 1)]
            _draw_row(panels, rows[name], rows["original"], clip, shown)
            if column == 0:
                panels[0].set_ylabel(
                    name.replace(" ", "\n"), rotation=0, ha="right", va="center", fontsize=11
                )
    return figure


def _draw_row(
    panels: Sequence[Axes], picture: Picture, original: Picture, clip: int, shown: np.ndarray
) -> None:
    """Draw frames, then the spectrogram (time to the right) on the colour scale of the original."""
    for axes, frame in zip(panels, shown):
        pixels = np.nan_to_num(np.clip(picture.video[clip, frame], 0, 1), nan=HIDDEN)
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
    low, high = np.percentile(original.log_mel[clip], [1, 99])
    panels[-1].set_facecolor((HIDDEN,) * 3)
    panels[-1].imshow(picture.log_mel[clip].T, origin="lower", aspect="auto", vmin=low, vmax=high)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def reconstruction_rows(
    contenders: Mapping[str, Mapping[str, Picture]],
) -> dict[str, Picture]:
    """Rows of one block of `draw_reconstructions`.

    Args:
        contenders: name → pictures of the same clips by its parameters, from `reconstruction.draw_clips`.
    """
    shared = next(iter(contenders.values()))
    rows = {name: shared[name] for name in ("original", "masked")}
    rows |= {name: pictures["model"] for name, pictures in contenders.items()}
    return rows | {ZERO: shared[ZERO]}
