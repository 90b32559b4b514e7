"""Frozen parameters get no gradient, no update and no decay; the others are trained as if alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hicmae_jax.training import freeze

PARAMS = {"encoder": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "head": {"kernel": jnp.ones((3, 2))}}
FROZEN = {"encoder": {"kernel": True}, "head": {"kernel": False}}
X = jnp.array([[1.0, -2.0], [0.5, 3.0]])


def loss(params, frozen):
    params = freeze.without_gradient(params, frozen)
    return jnp.square(jnp.tanh(X @ params["encoder"]["kernel"]) @ params["head"]["kernel"] - 1).sum()


def test_what_is_frozen_has_no_gradient_and_the_rest_its_own():
    whole = jax.grad(loss)(PARAMS, jax.tree.map(lambda _: False, FROZEN))
    part = jax.grad(loss)(PARAMS, FROZEN)
    assert whole["encoder"]["kernel"].any()
    assert not part["encoder"]["kernel"].any()
    np.testing.assert_array_equal(part["head"]["kernel"], whole["head"]["kernel"])


@pytest.mark.parametrize(
    "optimizer", [optax.adamw(0.1, weight_decay=0.5), optax.sgd(0.1)], ids=["adamw", "sgd"]
)
def test_what_is_frozen_stays_and_the_rest_moves_as_without(optimizer):
    kept = freeze.without_update(optimizer, FROZEN)
    state, alone = kept.init(PARAMS), optimizer.init(PARAMS)
    ours = theirs = PARAMS
    for _ in range(3):
        updates, state = kept.update(jax.grad(loss)(ours, FROZEN), state, ours)
        ours = optax.apply_updates(ours, updates)
        updates, alone = optimizer.update(
            jax.grad(loss)({**theirs, "encoder": PARAMS["encoder"]}, FROZEN), alone, theirs
        )
        theirs = optax.apply_updates(theirs, updates)
    np.testing.assert_array_equal(ours["encoder"]["kernel"], PARAMS["encoder"]["kernel"])
    np.testing.assert_array_equal(ours["head"]["kernel"], theirs["head"]["kernel"])
    assert (ours["head"]["kernel"] != PARAMS["head"]["kernel"]).all()
