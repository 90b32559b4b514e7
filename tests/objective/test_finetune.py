"""Losses of fine-tuning: the goldens' values and gradients, weights of classes, choices that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.objective.finetune import (
    REGRESSION_LOSSES,
    FinetuneLossConfig,
    class_weights,
    regression_loss,
    soft_cross_entropy,
)
from tests.goldens import finetune_recipe
from tests.support.golden_check import assert_agrees


def test_losses_and_gradients_agree_with_the_goldens():
    assert_agrees("regression", ("loss_", "grad_"))


@pytest.mark.parametrize("kind", ["ccc", "pcc"])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_constant_values_have_no_correlation_and_a_finite_gradient(kind, shift):
    constant = jnp.full((6, 2), 0.25)
    for predictions in (constant + shift, jnp.arange(12.0).reshape(6, 2)):
        value, gradient = jax.value_and_grad(lambda x: regression_loss(kind, x, constant))(predictions)
        assert value == 1
        assert jnp.isfinite(gradient).all()


def test_low_precision_is_computed_in_float32():
    targets = finetune_recipe.dimensions(520, 32, 3)
    predictions = finetune_recipe.predictions(521, targets)
    half = jnp.asarray(predictions, jnp.bfloat16)
    for kind in REGRESSION_LOSSES:
        loss = regression_loss(kind, half, targets)
        assert loss.dtype == jnp.float32
        assert loss == regression_loss(kind, half.astype(jnp.float32), targets)


def test_cross_entropy_of_one_class_and_of_mixed_classes():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
    hard = jnp.array([[1.0, 0, 0], [0, 0, 1]])
    assert soft_cross_entropy(logits, hard) == pytest.approx(-np.log([0.7, 0.5]).mean())
    mixed = jnp.array([[0.6, 0.4, 0], [0.1, 0, 0.9]])
    terms = [0.6 * np.log(0.7) + 0.4 * np.log(0.2), 0.1 * np.log(0.25) + 0.9 * np.log(0.5)]
    assert soft_cross_entropy(logits, mixed) == pytest.approx(-np.mean(terms))
    half = jnp.asarray(logits, jnp.bfloat16)
    assert soft_cross_entropy(half, hard).dtype == jnp.float32


def test_weights_of_classes_balance_them():
    counts = np.array([60, 30, 0, 10])
    weights = class_weights(counts)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights @ counts / counts.sum(), 1)
    np.testing.assert_allclose(weights * counts, [100 / 3, 100 / 3, 0, 100 / 3], rtol=1e-6)
    # With clips as frequent as the counts, every class has the same share of the loss.
    targets = jnp.eye(4)[np.repeat(np.arange(4), counts)]
    logits = jnp.zeros((100, 4))
    assert soft_cross_entropy(logits, targets, weights) == pytest.approx(np.log(4))


def test_impossible_counts_are_refused():
    for counts in ([0, 0], [3, -1]):
        with pytest.raises(ValueError, match="counts of classes"):
            class_weights(np.array(counts))


def test_auto_chooses_by_the_task():
    assert FinetuneLossConfig().kind_for(regression=False) == "cross_entropy"
    assert FinetuneLossConfig().kind_for(regression=True) == "mse"
    assert FinetuneLossConfig(kind="ccc").kind_for(regression=True) == "ccc"


@pytest.mark.parametrize(
    ("choices", "regression", "message"),
    [
        ({"kind": "cross_entropy"}, True, "'cross_entropy' needs classes"),
        ({"kind": "pcc"}, False, "'pcc' needs dimensions"),
        ({"balanced": True}, True, "balanced = True needs classes"),
    ],
)
def test_a_loss_that_does_not_fit_the_task_is_refused(choices, regression, message):
    with pytest.raises(ValueError, match=message):
        FinetuneLossConfig(**choices).kind_for(regression)


def test_unknown_losses_and_shapes_are_refused():
    with pytest.raises(ValueError, match=r"kind = 'huber': choose one of auto, cross_entropy"):
        FinetuneLossConfig(kind="huber")
    with pytest.raises(ValueError, match=r"kind = 'huber': choose one of mse"):
        regression_loss("huber", jnp.zeros((2, 1)), jnp.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"\(2,\) and targets \(2, 1\)"):
        regression_loss("mse", jnp.zeros(2), jnp.zeros((2, 1)))
