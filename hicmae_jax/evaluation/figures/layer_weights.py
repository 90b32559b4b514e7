"""How much each encoder layer adds to the feature of a fine-tuned model (hierarchical feature fusion)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from hicmae_jax.evaluation.figures import titles
from hicmae_jax.evaluation.figures.palette import COLOURS


def draw(weights: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the weight of every layer, one panel for each modality, and the equal weights before fine-tuning.

    Args:
        weights: `video` and `audio`, or one of them → float[N_s], after softmax, first layer first.
        title: of the figure.

    Raises:
        ValueError: there are no weights, or they do not add up to 1.
    """
    if not weights:
        raise ValueError("no layer weights to draw")
    for name, of_layers in weights.items():
        total = float(np.sum(of_layers))
        if abs(total - 1) > 1e-3 or np.min(of_layers) < 0:
            raise ValueError(f"{name}: layer weights add up to {total:.3f}, not 1: apply softmax first")
    figure = Figure(figsize=(4.5 * len(weights), 3.5), layout="constrained")
    panels = figure.subplots(1, len(weights), sharey=True, squeeze=False)[0]
    for number, (axes, (name, of_layers)) in enumerate(zip(panels, weights.items())):
        layers = np.arange(1, len(of_layers) + 1)
        axes.bar(layers, of_layers, color=COLOURS[number])
        axes.axhline(1 / len(layers), color="black", linestyle="--", linewidth=1, label="before fine-tuning")
        axes.set(xticks=layers, xlabel="encoder layer", title=name)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("weight")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    titles.put(figure, title)
    return figure
