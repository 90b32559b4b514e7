"""The fine-tuning objective: cross-entropy of soft targets, and losses of dimensions (as the published code).

All losses are computed in float32. Mixing and label smoothing make the soft targets before.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.common.setting import check_limits, setting

CROSS_ENTROPY = "cross_entropy"
REGRESSION_LOSSES = ("mse", "l1", "smooth_l1", "ccc", "pcc")
PCC_EPSILON = 1e-6  # added to the product of both deviations, as the published code does


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneLossConfig:
    """The fine-tuning objective.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    kind: str = setting(
        "auto",
        "auto: cross_entropy for classes, mse for dimensions",
        choices=("auto", CROSS_ENTROPY, *REGRESSION_LOSSES),
    )
    balanced: bool = setting(False, "weight classes by the inverse of their frequency in the training clips")

    def __post_init__(self) -> None:
        """Check the choices."""
        check_limits(self)

    def kind_for(self, regression: bool) -> str:
        """Name of the loss: `kind`, or what `auto` stands for.

        Args:
            regression: True if the data set has dimensions, False if it has classes.

        Raises:
            ValueError: the loss does not fit the task.
        """
        if regression and self.balanced:
            raise ValueError(
                "balanced = True needs classes, but the data set has dimensions: set it to False"
            )
        if self.kind == "auto":
            return "mse" if regression else CROSS_ENTROPY
        if regression and self.kind == CROSS_ENTROPY:
            raise ValueError(
                f"kind = {self.kind!r} needs classes, but the data set has dimensions: "
                f"choose auto or one of {', '.join(REGRESSION_LOSSES)}"
            )
        if not regression and self.kind != CROSS_ENTROPY:
            raise ValueError(
                f"kind = {self.kind!r} needs dimensions, but the data set has classes: "
                f"choose auto or {CROSS_ENTROPY}"
            )
        return self.kind


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Weights of classes by the inverse of their frequency; their mean over all clips is 1.

    Args:
        counts: [K], training clips of each class.

    Returns:
        float32[K]; 0 for a class without clips.

    Raises:
        ValueError: a count is negative, or there is no clip.
    """
    counts = np.asarray(counts, np.float64)
    if (counts < 0).any() or not counts.sum():
        raise ValueError(f"counts of classes {counts.tolist()} must be at least 0, and one of them above 0")
    present = counts > 0
    weights = counts.sum() / (present.sum() * np.where(present, counts, 1))
    return np.where(present, weights, 0).astype(np.float32)


def soft_cross_entropy(
    logits: jax.Array, targets: jax.Array, weights: jax.Array | np.ndarray | None = None
) -> jax.Array:
    """Cross-entropy of soft targets, mean over clips.

    Args:
        logits: [B, K].
        targets: float[B, K], probabilities of the classes (mixed and smoothed).
        weights: float[K], weights of the classes as in `class_weights`; None for 1.

    Returns:
        float32 scalar.
    """
    terms = -targets.astype(jnp.float32) * jax.nn.log_softmax(logits.astype(jnp.float32))
    if weights is not None:
        terms *= weights
    return terms.sum(-1).mean()


def regression_loss(kind: str, predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Loss of regressed dimensions, mean over clips and dimensions.

    `ccc` and `pcc` are 1 minus the mean over dimensions of the concordance or Pearson correlation in the
    batch, from biased moments. Where a correlation is undefined because values are constant in the batch, it
    counts as 0 and has a gradient of 0. (There the published code has gradients that are not numbers.)

    Args:
        kind: one of `REGRESSION_LOSSES`.
        predictions: [B, D].
        targets: float[B, D].

    Returns:
        float32 scalar.

    Raises:
        ValueError: no such loss, or shapes that differ.
    """
    if predictions.shape != targets.shape:
        raise ValueError(f"predictions {predictions.shape} and targets {targets.shape} must have one shape")
    predictions, targets = predictions.astype(jnp.float32), targets.astype(jnp.float32)
    error = predictions - targets
    match kind:
        case "mse":
            return jnp.square(error).mean()
        case "l1":
            return jnp.abs(error).mean()
        case "smooth_l1":
            size = jnp.abs(error)
            return jnp.where(size < 1, 0.5 * jnp.square(error), size - 0.5).mean()
        case "ccc":
            return 1 - _concordance(predictions, targets).mean()
        case "pcc":
            return 1 - _correlation(predictions, targets).mean()
    raise ValueError(f"kind = {kind!r}: choose one of {', '.join(REGRESSION_LOSSES)}")


def _concordance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Concordance correlation float32[D] over clips, from biased moments; 0 where it is undefined."""
    shift = x.mean(0) - y.mean(0)
    denominator = x.var(0) + y.var(0) + jnp.square(shift)
    defined = denominator > 0
    return 2 * _covariance(x, y) / jnp.where(defined, denominator, 1)


def _correlation(x: jax.Array, y: jax.Array) -> jax.Array:
    """Pearson correlation float32[D] over clips, with `PCC_EPSILON`; 0 where values are constant."""
    product = x.var(0) * y.var(0)
    varies = product > 0
    # The root is taken of 1 where it has no gradient.
    deviations = jnp.where(varies, jnp.sqrt(jnp.where(varies, product, 1)), 0)
    return jnp.where(varies, _covariance(x, y), 0) / (deviations + PCC_EPSILON)


def _covariance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Biased covariance [D] over clips."""
    return ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
