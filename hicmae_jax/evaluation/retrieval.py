"""Retrieval between a clip's video and its audio: recall@k with a confidence interval and chance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DIRECTIONS = ("video to audio", "audio to video", "mean")
TIE = 1e-12
"""Cosines this close count as equal. It is a thousand times the rounding error of float64, and less than any
difference between float32 features: if they differ by 1e-5 of their length, their cosine is 1 - 5e-11."""


class Recall(NamedTuple):
    """Recall@k over N clips.

    Attributes:
        recall: share of clips whose partner is among the k most similar.
        low: lower end of the 95 % interval.
        high: upper end.
        chance: k / N, the expectation of a random order.
    """

    recall: float
    low: float
    high: float
    chance: float


def similarities(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """Cosines float64[N, N] of features float[N, C]; row i is video i against every audio.

    Raises:
        ValueError: features are not finite.
    """

    def unit(name: str, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, np.float64)
        if not np.isfinite(x).all():
            rows = np.flatnonzero(~np.isfinite(x).all(-1))
            raise ValueError(f"{name} features of {len(rows)} of {len(x)} clips are not finite")
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)

    return unit("video", video) @ unit("audio", audio).T


def hits(similarity: np.ndarray, k: int) -> np.ndarray:
    """Probability for each row that its own column is among the k largest.

    Columns tied with its own are taken in random order, so that constant features score chance. If a tie
    counted as a hit, constant features would score 100 %.

    Args:
        similarity: float[N, N]; column i belongs to row i.
        k: number of candidates.

    Returns:
        float64[N] in [0, 1]; between 0 and 1 only if a tie crosses the k-th place.
    """
    own = np.diagonal(similarity)[:, None]
    above = (similarity > own + TIE).sum(1)
    tied = (np.abs(similarity - own) <= TIE).sum(1)  # counts itself
    return np.clip((k - above) / tied, 0, 1)


def retrieval(
    video: np.ndarray, audio: np.ndarray, ks: Sequence[int] = (1, 5, 10), seed: int = 0, resamples: int = 2000
) -> dict[str, dict[int, Recall]]:
    """Recall@k of one level's features, in both directions and their mean.

    The interval is a percentile bootstrap over query clips with a fixed gallery. It resamples the hits, not
    the similarity matrix, where a clip drawn twice would have two right answers. For the mean, the two hits
    of a clip are resampled as a pair.

    Args:
        video: float[N, C].
        audio: float[N, C] of the same clips.
        ks: numbers of candidates.
        seed: of the resampling.
        resamples: number of resamples.

    Returns:
        Each of `DIRECTIONS` → k → `Recall`.

    Raises:
        ValueError: there is no clip, or features are not finite.
    """
    count = len(video)
    if not count:
        raise ValueError("no clip to retrieve")
    similarity = similarities(video, audio)
    # How often each clip is drawn. All k share the draws, so that their intervals can be compared.
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    scores: dict[str, dict[int, Recall]] = {direction: {} for direction in DIRECTIONS}
    for k in ks:
        to_audio, to_video = hits(similarity, k), hits(similarity.T, k)
        for direction, found in zip(DIRECTIONS, (to_audio, to_video, (to_audio + to_video) / 2), strict=True):
            low, high = np.percentile(drawn @ found / count, [2.5, 97.5])
            chance = min(1.0, k / count)
            scores[direction][k] = Recall(float(found.mean()), float(low), float(high), chance)
    return scores
