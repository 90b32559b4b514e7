"""A run's first state is created sharded, and is the same on every mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hicmae_jax.training import sharding
from hicmae_jax.training import state as train_state
from hicmae_jax.training.sharding import FSDP

OPTIMIZER = optax.adamw(optax.constant_schedule(0.1))


def initialise(key):
    """Parameters whose largest dimension is split by 8, is the loop over layers, or is no multiple of 8."""
    shapes = {"encoder": {"blocks": {"fc": (3, 16, 64)}}, "proj": (64, 6), "odd": (6, 6)}
    keys = iter(jax.random.split(key, 3))

    def layer(shape):
        return {"kernel": jax.random.normal(next(keys), shape), "bias": jnp.zeros(shape[-1])}

    return jax.tree.map(layer, shapes, is_leaf=lambda node: isinstance(node, tuple))


def created(fsdp, devices=8):
    mesh = sharding.make_mesh(fsdp, jax.devices()[:devices])
    abstract = train_state.abstract_state(initialise, OPTIMIZER, mesh, scanned=True)
    return abstract, train_state.create(initialise, OPTIMIZER, abstract, jax.random.key(1))


def test_parameters_and_both_moments_are_created_sharded():
    _, state = created(fsdp=8)
    adam = state.opt_state[0]
    for tree in (state.params, adam.mu, adam.nu):
        held = {
            "encoder": tree["encoder"]["blocks"]["fc"]["kernel"],
            "proj": tree["proj"]["kernel"],
            "odd": tree["odd"]["kernel"],
            "bias": tree["proj"]["bias"],
        }
        assert {name: leaf.sharding.spec for name, leaf in held.items()} == {
            "encoder": jax.P(None, None, FSDP),
            "proj": jax.P(FSDP),
            "odd": jax.P(),
            "bias": jax.P(),
        }
        shards = {name: leaf.addressable_shards for name, leaf in held.items()}
        assert {name: len(of_leaf) for name, of_leaf in shards.items()} == dict.fromkeys(held, 8)
        assert {name: of_leaf[0].data.shape for name, of_leaf in shards.items()} == {
            "encoder": (3, 16, 8),
            "proj": (8, 6),
            "odd": (6, 6),
            "bias": (6,),
        }


@pytest.mark.parametrize(("fsdp", "devices"), [(1, 1), (1, 8), (4, 8), (8, 8)])
def test_values_do_not_depend_on_the_mesh(fsdp, devices):
    _, state = created(fsdp, devices)
    expected = jax.jit(initialise)(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, state.params, expected)
    zeros = jax.tree.map(np.zeros_like, expected)
    for moment in (state.opt_state[0].mu, state.opt_state[0].nu):
        jax.tree.map(np.testing.assert_array_equal, moment, zeros)
    assert (state.step, state.replaced, state.skipped, state.skipped_in_row) == (0, 0, 0, 0)
    assert state.opt_state[0].count == 0


def test_the_state_has_the_shapes_and_shardings_of_the_abstract_state():
    abstract, state = created(fsdp=4)
    described = [(leaf.shape, leaf.dtype, leaf.sharding) for leaf in jax.tree.leaves(abstract)]
    assert [(leaf.shape, leaf.dtype, leaf.sharding) for leaf in jax.tree.leaves(state)] == described
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {np.dtype("float32"), np.dtype("int32")}
