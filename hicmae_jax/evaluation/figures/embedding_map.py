"""Maps of clips in the space of features, by emotion (paper figure 9)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from hicmae_jax.evaluation.figures import titles
from hicmae_jax.evaluation.figures.palette import style

PERPLEXITY = 30.0


def coordinates(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Places of clips on a map by t-SNE.

    Args:
        features: float[N, C].
        seed: of the optimisation.

    Returns:
        float[N, 2]; only distances between near neighbours mean something.

    Raises:
        ValueError: fewer than four clips, or features are not finite.
    """
    features = np.asarray(features, np.float32)
    if len(features) < 4:
        raise ValueError(f"a map needs at least 4 clips, not {len(features)}")
    if not np.isfinite(features).all():
        raise ValueError(f"features of {(~np.isfinite(features).all(1)).sum()} clips are not finite")
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    # It begins with the principal components, so that maps of similar features look alike. The threads of
    # t-SNE wait for each other all the time: on busy cores, two took a hundred times as long as one.
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)


def draw(places: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Draw one map for each kind of feature, side by side.

    Args:
        places: heading, such as `video`, `audio`, `fused` → float[N, 2] from `coordinates`.
        labels: int[N], class of every clip.
        classes: names of the classes.
        title: of the figure.

    Raises:
        ValueError: there is no map, or a map has another number of clips.
    """
    if not places:
        raise ValueError("no map to draw")
    for heading, of_clips in places.items():
        if np.shape(of_clips) != (len(labels), 2):
            raise ValueError(f"{heading}: places {np.shape(of_clips)} for {len(labels)} clips")
    figure = Figure(figsize=(4.2 * len(places), 5.3), layout="constrained")
    panels = figure.subplots(1, len(places), squeeze=False)[0]
    for axes, (heading, of_clips) in zip(panels, places.items()):
        _draw_map(axes, np.asarray(of_clips), np.asarray(labels), classes)
        axes.set_title(heading)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=min(len(names), 11), markerscale=2, fontsize=9
    )
    titles.put(figure, title)
    return figure


def _draw_map(axes: Axes, places: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    for k, name in enumerate(classes):
        colour, marker = style(k)
        x, y = places[labels == k].T
        axes.scatter(x, y, s=12, c=colour, marker=marker, alpha=0.7, linewidths=0, label=name)
    # The same scale in both directions, in a square.
    middle = (places.max(0) + places.min(0)) / 2
    reach = 0.53 * np.ptp(places, axis=0).max()
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
    axes.set(xticks=[], yticks=[], aspect="equal")
