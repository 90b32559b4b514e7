"""Rates by width: which matrices, by how much, and what stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from hicmae_jax.model import shapes
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.training import optimizer as optim
from hicmae_jax.training import width_rule
from tests.support import tiny_model

CONSTANT = {"base_rate": 0.1, "base_minimum": 0.1, "batch": 256, "warmup_epochs": 0, "steps_per_epoch": 9}
OWN = (32, 24)
"""The widths of the tiny model."""
HALF = (16, 12)


def parameters(scanned=False):
    execution = ExecutionConfig(scan_encoders=scanned)
    model = tiny_model.model_config(encoder_depth=1, decoder_depth=2, skip_layers=(1,))
    return shapes.abstract_parameters(model, tiny_model.MASKS, execution)


def factors(base, scanned=False):
    return flatten_dict(width_rule.rate_factors(parameters(scanned), base), sep="/")


def updates(base):
    """The updates of two steps with a rate of 0.1, one after the other."""
    params = tiny_model.random_like(parameters(), seed=1)
    transformation = optim.make_optimizer(optim.OptimizerConfig(base_width=base, **CONSTANT), params)
    compiled, state, made = jax.jit(transformation.update), transformation.init(params), []
    for step in range(2):
        update, state = compiled(tiny_model.random_like(params, step + 5), state, params)
        made.append(jax.device_get(update))
    return made


@pytest.fixture(scope="module")
def plain():
    return updates(None)


@pytest.mark.parametrize("scanned", [False, True])
def test_a_model_that_is_twice_as_wide_halves_the_rates_of_its_matrices(scanned):
    found = factors(HALF, scanned)
    halved = {path for path, factor in found.items() if factor == 0.5}
    same = {path for path, factor in found.items() if factor == 1}
    assert halved | same == set(found)
    # What decays, and whose fan-in is a width: no patch embedding and no mask token.
    decaying = flatten_dict(optim.decay_mask(parameters(scanned)), sep="/")
    kept = {"encoder/patch_embed/kernel", "encoder_audio/patch_embed/kernel", "mask_token_audio"}
    assert halved == {path for path, decays in decaying.items() if decays} - kept


def test_encoders_and_decoders_have_their_own_width():
    found = factors((64, 24))
    assert found["encoder/blocks_0/mlp/fc1/kernel"] == found["encoder/blocks_0/mlp/fc2/kernel"] == 2
    assert found["encoder_fusion/blocks_0/cross_attn/kv/kernel"] == 2
    assert found["encoder_to_decoder_audio/kernel"] == 2  # reads from the encoder
    assert found["decoder/blocks_1/cross_attn/kv/kernel"] == found["decoder_audio/head/kernel"] == 1


def test_the_base_model_itself_gets_the_updates_of_no_rule_bit_for_bit(plain):
    jax.tree.map(np.testing.assert_array_equal, updates(OWN), plain)


def test_the_rate_changes_and_rate_times_decay_does_not(plain):
    params = jax.device_get(tiny_model.random_like(parameters(), seed=1))
    scale = width_rule.rate_factors(parameters(), HALF)
    weight_decay = optim.OptimizerConfig(**CONSTANT).weight_decay

    def compare(wide, plain, param, factor, decays):
        decayed = -0.1 * weight_decay * param * decays
        np.testing.assert_allclose(wide - decayed, factor * (plain - decayed), atol=1e-6)

    jax.tree.map(compare, updates(HALF)[1], plain[1], params, scale, optim.decay_mask(params))


def test_the_state_is_the_same_with_and_without_the_rule():
    """So checkpoints are, and a resumed run may begin with the rule."""
    params, gradient = {"kernel": jnp.ones((2, 3))}, {"kernel": jnp.full((2, 3), 0.5)}
    plain = optax.scale_by_adam()
    scaled = width_rule.scale_rates(plain, {"kernel": 0.25})
    (quarter, state), (whole, wanted) = (
        of.update(gradient, of.init(params), params) for of in (scaled, plain)
    )
    jax.tree.map(np.testing.assert_array_equal, state, wanted)
    np.testing.assert_array_equal(quarter["kernel"], whole["kernel"] / 4)


def test_lamb_and_widths_below_one_are_refused():
    with pytest.raises(
        ValueError, match=r"base_width \(32, 24\) is for adamw: with optimizer\.kind = 'lamb'"
    ):
        optim.OptimizerConfig(base_width=OWN, kind="lamb", steps_per_epoch=1)
    with pytest.raises(ValueError, match=r"base_width \(0, 24\) is not at least 1"):
        optim.OptimizerConfig(base_width=(0, 24), steps_per_epoch=1)
