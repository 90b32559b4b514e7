"""Recall of each emotion with intervals, one bar for each system."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hicmae_jax.evaluation.figures import titles
from hicmae_jax.evaluation.figures.palette import COLOURS
from hicmae_jax.evaluation.intervals import Interval


def draw(
    recalls: Mapping[str, np.ndarray],
    intervals: Mapping[str, Sequence[Interval]],
    classes: Sequence[str],
    counts: Sequence[int],
    title: str,
) -> Figure:
    """Draw the recall of each class, its 95 % interval, and the mean over classes (UAR) of each system.

    Args:
        recalls: system → float[K] in %, NaN for a class that never occurs.
        intervals: system → an interval for each class, from `intervals.recall_intervals`.
        classes: names of the K classes.
        counts: number of test clips of each class.
        title: of the figure.

    Raises:
        ValueError: there is no system, or its recalls or intervals are not one for each class.
    """
    if not recalls:
        raise ValueError("no recall to draw")
    for name, values in recalls.items():
        if not len(values) == len(intervals[name]) == len(classes) == len(counts):
            raise ValueError(
                f"{name}: {len(values)} recalls, {len(intervals[name])} intervals and {len(counts)} counts "
                f"for {len(classes)} classes"
            )
    bars = len(classes) * (len(recalls) + 0.6)
    figure = Figure(figsize=(max(6.0, 1.5 + 0.3 * bars), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(recalls)
    for number, (name, values) in enumerate(recalls.items()):
        colour = COLOURS[number % len(COLOURS)]
        place = np.arange(len(classes)) + (number - (len(recalls) - 1) / 2) * width
        label = f"{name}, UAR {np.nanmean(values):.1f}"
        axes.bar(place, values, width, color=colour, alpha=0.75, label=label)
        for x, value, found in zip(place, values, intervals[name]):
            if np.isfinite([value, found.low, found.high]).all():
                reach = np.maximum([[value - found.low], [found.high - value]], 0)
                axes.errorbar(x, value, reach, color="black", capsize=2.5, linewidth=1)
    axes.axhline(100 / len(classes), color="black", linestyle="--", linewidth=1, label="chance")
    axes.set_xticks(range(len(classes)), [f"{name}\n{count:,}" for name, count in zip(classes, counts)])
    axes.set(ylabel="recall, %", ylim=(0, 100), xlim=(-0.6, len(classes) - 0.4))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    titles.put(figure, title)
    figure.legend(loc="outside lower center", ncols=len(recalls) + 1, fontsize=9)
    return figure
