"""Curves of a run: losses, retrieval and learning rate by step."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TRAIN, HELD_OUT = "tab:blue", "tab:orange"

# Title of a panel: name in the training log, name in the held-out scores; `*` is a level or a layer.
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
    """Draw every loss term in training and on held-out clips, retrieval, and the learning rate, by step.

    Args:
        lines: lines of `metrics.jsonl`, from `hicmae_jax.logs.metrics.read_metrics`.

    Raises:
        ValueError: the lines hold none of the curves.
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
    """Steps and values of a name; if it has a `*`, of each match without `/`, as `level 0`, `level 1`, …."""
    stem, many, _ = name.partition("*")
    of: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for key, value in line.items():
            ending = key.removeprefix(stem)
            if key == name or (many and key.startswith(stem) and "/" not in ending):
                # The word before the star: `level` of `loss/contrastive_level_*`.
                which = f"{re.split('[/_]', stem)[-2]} {ending}" if many else ""
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
