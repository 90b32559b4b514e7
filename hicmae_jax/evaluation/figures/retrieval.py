"""Recall by layer, with intervals and chance."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from hicmae_jax.evaluation.retrieval import Recall

CONTENDER_COLOURS = ("tab:blue", "tab:gray")


def draw_retrieval(scores: Mapping[str, Mapping[int, Mapping[int, Recall]]], clips: int) -> Figure:
    """Draw recall@k by layer, the mean of both directions, with 95 % intervals and chance.

    Args:
        scores: contender → layer → k → `Recall`.
        clips: number of clips in the gallery.
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
