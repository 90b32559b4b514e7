"""Probes: how well emotions can be told from frozen features, by a linear classifier and by nearest clips.

The features are those of both encoders at all tapped layers and the last, side by side, without fusion.
Three small models, pre-trained on made-up faces, and 342 clips to fit gave a linear UAR of 38 to 46 % with
these, 38 to 46 % with the last layer alone, 34 to 39 % with fusion alone, and 37 to 45 % with all of them. So
no layer need be chosen, and fusion adds nothing.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from data_pipeline.format.host_batch import HostBatch
from hicmae_jax.evaluation import emotion_metrics
from hicmae_jax.evaluation.batched import BatchedApply, watched_batches
from hicmae_jax.evaluation.embeddings import embed_clips
from hicmae_jax.evaluation.probe_clips import ProbeClips
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig

NEIGHBOURS = 20
"""Nearest clips that vote, each by the inverse of its distance."""
STRENGTH = 100.0
"""`C` of scikit-learn, for rows of length about 1. With these three models and 342 or 800 clips to fit, the
best of 1, 10, 100, 1,000 and 10,000 was at most 2 points better. Cross-validation among the clips to fit
chose from 10 to 1,000, so that it would add steps to a curve, and lost up to 4 points."""
ITERATIONS = 1_000
"""Limit for the linear classifier, which took up to 250."""


class Probes:
    """Parameters → scores of the probes; it compiles at the first call only.

    The clips are the same at every call, and nothing is augmented, so scores depend only on the parameters.
    Every process must call it. The devices share the features, each process fits the classifiers to all of
    them, and all get the same scores.

    Args:
        clips: the labelled clips.
        preprocess: geometry.
        mesh: devices that hold the parameters; None takes one.
        reading: a context manager to enter while a batch is read, for a watchdog.
        execution: how the model is computed.
    """

    def __init__(
        self,
        clips: ProbeClips,
        preprocess: PreprocessConfig,
        mesh: jax.sharding.Mesh | None = None,
        reading: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        execution: ExecutionConfig = ExecutionConfig(),
    ) -> None:
        self._clips = clips
        self._reading = reading
        self._embed = BatchedApply(probe_features(preprocess, execution), clips.clips.batch, mesh)

    def __call__(self, params: Any) -> dict[str, float]:
        """Score parameters.

        Returns:
            As `probe_scores`; a clip that cannot be read is left out.

        Raises:
            OSError: no clip can be read.
            ValueError: features are not finite, or the clips to fit that can be read are of one class.
        """
        found = self._embed(params, watched_batches(self._clips.clips, self._reading))
        classes = self._clips.classes[found["example"]]
        fitted = found["example"] < self._clips.fitted
        return probe_scores(found["features"], classes, fitted, self._clips.n_classes)


def probe_features(
    preprocess: PreprocessConfig, execution: ExecutionConfig = ExecutionConfig()
) -> Callable[[Any, HostBatch[jax.Array]], Mapping[str, jax.Array]]:
    """Make a function (parameters, unaugmented host batch) → features, for `BatchedApply`.

    Returns:
        The function; it gives `example`, int32[B], and `features`, float32[B, 2C · layers]: of video and
        audio at each of `embeddings.evaluated_layers`.
    """
    embed = embed_clips(preprocess, execution)

    def features(params: Any, batch: HostBatch[jax.Array]) -> Mapping[str, jax.Array]:
        levels = [of for pair in embed(params, batch).values() for of in pair]
        return {"example": batch["example"], "features": jnp.concatenate(levels, axis=-1)}

    return features


def probe_scores(
    features: np.ndarray, classes: np.ndarray, fitted: np.ndarray, n_classes: int
) -> dict[str, float]:
    """Fit both classifiers to some clips, and score them on the others.

    Features are standardised with mean and deviation of the clips to fit, and divided by the root of their
    number, so that a row has a length of about 1 whatever the width of the model is.

    Args:
        features: float[N, F].
        classes: int[N], from 0.
        fitted: bool[N], the clips to fit.
        n_classes: number of classes.

    Returns:
        `linear_uar`, `linear_war`, `knn_uar` and `knn_war`, from 0 to 1; `chance_uar`, of answers that do not
        depend on the clip; `clips`, the number of clips that were scored, and `clips_fitted`.

    Raises:
        ValueError: features are not finite, the clips to fit are of one class, or there is none to score.
    """
    bad = ~np.isfinite(features).all(1)
    if bad.any():
        raise ValueError(f"features of {bad.sum()} of {len(bad)} labelled clips are not finite")
    scaler = StandardScaler().fit(features[fitted].astype(np.float64))
    rows = scaler.transform(features.astype(np.float64)) / np.sqrt(features.shape[1])
    true = classes[~fitted]
    nearest = min(NEIGHBOURS, int(fitted.sum()))
    classifiers = {
        "linear": LogisticRegression(C=STRENGTH, max_iter=ITERATIONS),
        "knn": KNeighborsClassifier(nearest, weights="distance", metric="cosine", algorithm="brute"),
    }
    scores: dict[str, float] = {}
    # With one thread, sums do not depend on the number of cores.
    with threadpool_limits(1):
        for name, classifier in classifiers.items():
            predicted = classifier.fit(rows[fitted], classes[fitted]).predict(rows[~fitted])
            counts = emotion_metrics.confusion(true, predicted, n_classes)
            of_confusion = emotion_metrics.scores_of_confusion(counts)
            for score in ("UAR", "WAR"):
                scores[f"{name}_{score.lower()}"] = float(of_confusion[score]) / emotion_metrics.PERCENT
    return {
        **scores,
        "chance_uar": 1 / len(np.unique(true)),
        "clips": float(len(true)),
        "clips_fitted": float(fitted.sum()),
    }
