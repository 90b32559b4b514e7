"""Pictures of a run: its curves, its reconstructions beside those of other contenders, its retrieval."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hicmae_jax.evaluation.reconstruction import ZERO, Picture
from hicmae_jax.evaluation.retrieval import Recall

FRAMES_SHOWN = 4
GAP = 0.15  # inches
HIDDEN = 0.75  # grey level of what is masked
TRAIN, HELD_OUT = "tab:blue", "tab:orange"
CONTENDER_COLOURS = ("tab:blue", "tab:gray")

# --- Curves -------------------------------------------------------------------------------------------------

# Title of a panel: names in the training log, names in the held-out scores; `*` is a level or a layer.
CURVES = {
    "total loss": ("loss/total", "held_out/total"),
    "video reconstruction": ("loss/video", "held_out/video"),
    "audio reconstruction": ("loss/audio", "held_out/audio"),
    "contrast, sum of levels": ("loss/contrastive", "held_out/contrastive"),
    "contrast by level": ("loss/contrastive_level_*", "held_out/contrastive_level_*"),
    "recall@5, both directions": (None, "held_out/recall@5/layer_*"),
    "learning rate": ("rate", None),
}


def draw_curves(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Every loss term, in training and on held-out clips, retrieval and the learning rate, by step.

    Args:
        lines: of `metrics.jsonl`, as `hicmae_jax.logs.metrics.read_metrics` gives them.

    Raises:
        ValueError: none of the lines holds any of the curves.
    """
    found = {
        title: [_series(lines, name) if name else {} for name in names] for title, names in CURVES.items()
    }
    found = {title: pair for title, pair in found.items() if any(pair)}
    if not found:
        raise ValueError(f"{len(lines)} lines of metrics hold no loss to draw")
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, (train, held_out)) in zip(panels, found.items()):
        axes.set_title(title, fontsize=11)
        _draw_series(axes, train, TRAIN, "training", "-")
        _draw_series(axes, held_out, HELD_OUT, "held out", "o-")
        chance = _series(lines, "held_out/chance@5") if "recall" in title else {}
        for steps, values in chance.values():
            axes.plot(steps, values, "--", color="black", linewidth=1, label="chance")
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend(fontsize=8)
        if "recall" in title:
            axes.set_ylim(0, 1)
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(found) - columns) : len(found)]:
        axes.set_xlabel("step")
    return figure


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of a name, or of each that its `*` stands for, as `level 0`, `level 1` and so on."""
    stem, many, _ = name.partition("*")
    of: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for key, value in line.items():
            if key == name or (many and key.startswith(stem)):
                # The word before the star: `level` of `loss/contrastive_level_*`.
                which = f"{re.split('[/_]', stem)[-2]} {key.removeprefix(stem)}" if many else ""
                steps, values = of.setdefault(which, ([], []))
                steps.append(line["step"])
                values.append(value)
    return dict(sorted(of.items(), key=lambda item: (len(item[0]), item[0])))


def _draw_series(
    axes: Axes, series: Mapping[str, tuple[list[int], list[float]]], colour: str, label: str, style: str
) -> None:
    for number, (which, (steps, values)) in enumerate(series.items()):
        axes.plot(
            steps,
            values,
            style,
            color=colour,
            alpha=1 - 0.6 * number / len(series),
            linewidth=1.2,
            markersize=3,
            label=f"{label}, {which}" if which else label,
        )


# --- Reconstructions ----------------------------------------------------------------------------------------


def draw_reconstructions(blocks: Mapping[str, Mapping[str, Picture]], title: str) -> Figure:
    """Originals, masked inputs and every contender's reconstruction: frames, and the spectrogram beside them.

    Args:
        blocks: heading such as `75 % of video masked` → row's name, `original` and `masked` first →
            pictures of the same clips, NumPy arrays. Blocks stand side by side, clips below each other.
        title: of the figure.
    """
    first = next(iter(blocks.values()))
    names, clips = list(first), len(first["original"].video)
    shown = np.linspace(0, first["original"].video.shape[1] - 1, FRAMES_SHOWN).round().astype(int)
    # In inches, with frames of one; narrow columns and rows keep blocks and clips apart.
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
    """Frames, then the spectrogram (time to the right), on the original's colour scale."""
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
        contenders: name → what `reconstruction.draw_clips` gave with its parameters, of the same clips.
    """
    shared = next(iter(contenders.values()))
    rows = {name: shared[name] for name in ("original", "masked")}
    rows |= {name: pictures["model"] for name, pictures in contenders.items()}
    return rows | {ZERO: shared[ZERO]}


# --- Retrieval ----------------------------------------------------------------------------------------------


def draw_retrieval(scores: Mapping[str, Mapping[int, Mapping[int, Recall]]], clips: int) -> Figure:
    """Recall@k by layer, both directions' mean, with 95 % intervals and the level of chance.

    Args:
        scores: contender → layer → k → `Recall`.
        clips: how many were searched.
    """
    first = next(iter(scores.values()))
    layers, ks = list(first), list(next(iter(first.values())))
    figure = Figure(figsize=(3.6 * len(ks), 3.4), layout="constrained")
    panels = figure.subplots(1, len(ks), sharey=True, squeeze=False)[0]
    width = 0.8 / len(scores)
    for axes, k in zip(panels, ks):
        for number, (contender, by_layer) in enumerate(scores.items()):
            found = [by_layer[layer][k] for layer in layers]
            recall = np.array([of.recall for of in found])
            reach = [recall - [of.low for of in found], [of.high for of in found] - recall]
            place = np.arange(len(layers)) + (number - (len(scores) - 1) / 2) * width
            colour = CONTENDER_COLOURS[number % len(CONTENDER_COLOURS)]
            axes.bar(
                place, recall, width, yerr=np.maximum(reach, 0), capsize=3, label=contender, color=colour
            )
        axes.axhline(found[0].chance, color="black", linestyle="--", linewidth=1, label="chance")
        axes.set_xticks(range(len(layers)), [f"layer {layer}" for layer in layers])
        axes.set_title(f"recall@{k}")
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("share found, both directions")
    panels[0].legend(fontsize=8)
    figure.suptitle(f"Finding a clip's sound by its picture and the reverse, among {clips} held-out clips")
    return figure
