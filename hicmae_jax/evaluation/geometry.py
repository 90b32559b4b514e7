"""How features of clips lie in space: alignment, uniformity and effective rank, and whether they collapse."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist
from scipy.special import logsumexp

from hicmae_jax.evaluation.held_out import HeldOut

COLLAPSED = 1.5
"""An effective rank below this is a collapse: it is 1 where all clips have one feature. In a small model it
was 6 to 14 before training, 2.7 to 7.5 after 40 updates, and 12 to 24 at the end."""
FEWEST_CLIPS = 8
"""Of fewer clips, a low rank says little."""


def alignment(video: np.ndarray, audio: np.ndarray) -> float:
    """Mean squared distance between the two features of a clip (Wang & Isola 2020, arXiv 2005.10242).

    Args:
        video: float[N, C].
        audio: float[N, C] of the same clips.

    Returns:
        From 0, all pairs are alike, to 4; 2 if they are orthogonal.
    """
    return float(np.square(_unit(video) - _unit(audio)).sum(1).mean())


def uniformity(features: np.ndarray) -> float:
    """How evenly features cover the sphere (Wang & Isola 2020): log of the mean of exp(-2 distance²).

    Args:
        features: float[N, C].

    Returns:
        At most 0, where all clips have one direction; lower is more even. NaN for a single clip.
    """
    distances = pdist(_unit(features), "sqeuclidean")
    return float(logsumexp(-2 * distances) - np.log(len(distances))) if len(distances) else np.nan


def effective_rank(features: np.ndarray) -> float:
    """Number of directions that features use (Roy & Vetterli 2007): exp of the entropy of singular values.

    Features are not centred, so that those of clips that are all alike have rank 1, not that of their
    rounding errors.

    Args:
        features: float[N, C].

    Returns:
        From 1 to min(N, C); 0 if all features are zero.
    """
    values = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    if not values.any():
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


class Geometry:
    """(parameters) → geometry of the features that a `HeldOut` has just computed of them.

    In a run it comes after that evaluation, at the same steps, and needs no pass over the clips.

    Args:
        held_out: has the features.
        note: called with one line the first time that features collapse.
    """

    def __init__(self, held_out: HeldOut, note: Callable[[str], None]) -> None:
        self._held_out = held_out
        self._note = note
        self._noted = False

    def __call__(self, params: Any) -> dict[str, float]:
        """Scores of the features of the last call of `held_out`, whatever the parameters.

        Returns:
            `alignment/layer_i`, `uniformity_video/layer_i`, `uniformity_audio/layer_i`,
            `rank_video/layer_i`, `rank_audio/layer_i`.
        """
        features = self._held_out.features
        scores = geometry(features)
        fallen = (
            collapsed(scores) if all(len(video) >= FEWEST_CLIPS for video, _ in features.values()) else {}
        )
        if fallen and not self._noted:
            self._noted = True
            ranks = ", ".join(f"{name} {value:.2f}" for name, value in fallen.items())
            self._note(
                f"features of held-out clips have collapsed: an effective rank below {COLLAPSED}: {ranks}"
            )
        return scores


def geometry(features: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Name → score, as `Geometry` gives them.

    Args:
        features: layer → (video, audio), float[N, C].
    """
    scores = {}
    for layer, (video, audio) in features.items():
        scores[f"alignment/layer_{layer}"] = alignment(video, audio)
        for name, of in (("video", video), ("audio", audio)):
            scores[f"uniformity_{name}/layer_{layer}"] = uniformity(of)
            scores[f"rank_{name}/layer_{layer}"] = effective_rank(of)
    return scores


def collapsed(scores: Mapping[str, float]) -> dict[str, float]:
    """Those ranks among the scores of `geometry` that are below `COLLAPSED`."""
    return {name: value for name, value in scores.items() if name.startswith("rank_") and value < COLLAPSED}


def _unit(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
