"""The study of evidence as a picture: UAR of each variant with its interval and its seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hicmae_jax.evaluation.figures.palette import COLOURS


def draw(rows: Sequence[Mapping[str, Any]], chance: float) -> Figure:
    """Draw a line for each variant: its UAR, the 95 % interval over speakers, and each seed's UAR.

    Args:
        rows: from `benchmarks.evidence.figures`.
        chance: UAR of guessing, in %.
    """
    figure = Figure(figsize=(8, 1.2 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    value = np.array([row["UAR"] for row in rows])
    ends = np.array([row["UAR interval"] for row in rows]).T
    reach = np.maximum([value - ends[0], ends[1] - value], 0)
    axes.errorbar(
        value, places, xerr=reach, fmt="o", color=COLOURS[0], capsize=3, label="all seeds, 95 % interval"
    )
    seeds = [(seed, place) for row, place in zip(rows, places) for seed in row["UAR by seed"]]
    axes.plot(*zip(*seeds), "|", color="black", markersize=9, label="one seed")
    axes.axvline(chance, color="black", linestyle="--", linewidth=1, label="chance")
    axes.set_yticks(places, [row["name"] for row in rows])
    axes.set(xlabel="UAR, %", ylim=(-0.6, len(rows) - 0.4))
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure
