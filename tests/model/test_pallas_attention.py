"""The interpreted TPU kernel has XLA's values and gradients: by itself, on a mesh and in the model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.model import pallas_attention
from hicmae_jax.model.attention import attend
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import pretrain_loss
from hicmae_jax.training import sharding
from tests.support import tiny_model
from tests.support.trees import assert_trees_close, largest_difference

BATCH = 4


def arrays(shapes, width, dtype=jnp.float32, batch=BATCH):
    """Projections of the given (tokens, channels), two biases and a gradient of the output."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    projections = [normal(batch, *shape) for shape in shapes]
    return projections, normal(width), normal(width), normal(batch, shapes[0][0], width)


@functools.partial(jax.jit, static_argnums=(4, 5))
def value_and_gradients(projections, q_bias, v_bias, cotangent, heads, kind):
    # Under rematerialisation, as in the model: the forward kernel runs again for the backward pass.
    function = jax.checkpoint(functools.partial(attend, heads=heads, kind=kind))
    value, gradients = jax.vjp(function, projections, q_bias, v_bias)
    return value, gradients(cotangent)


SELF, LAST_ROWS, LONG_CONTEXT, SHORT_CONTEXT = "self", "last rows", "long context", "short context"
# Odd lengths; heads of 64, 32 and other channels; one group of heads and several; widths of 128 and not.
CASES = {
    SELF: ([(26, 3 * 256)], 256, 4),
    LAST_ROWS: ([(21, 128), (29, 2 * 128)], 128, 4),
    LONG_CONTEXT: ([(7, 48), (33, 2 * 48)], 48, 3),
    SHORT_CONTEXT: ([(33, 256), (5, 2 * 256)], 256, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_those_of_xla(case):
    shapes, width, heads = CASES[case]
    given = arrays(shapes, width)
    expected = value_and_gradients(*given, heads, "xla")
    got = value_and_gradients(*given, heads, "pallas")
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
    assert largest_difference(got, expected) < 1e-5


def test_bfloat16_is_as_exact_as_with_xla():
    shapes, width, heads = CASES[SELF]
    given = arrays(shapes, width, jnp.bfloat16)
    exact = value_and_gradients(*jax.tree.map(lambda x: x.astype(jnp.float32), given), heads, "xla")
    got, of_xla = (value_and_gradients(*given, heads, kind) for kind in ("pallas", "xla"))
    assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype(jnp.bfloat16)}
    assert largest_difference(got, exact) < 1.1 * largest_difference(of_xla, exact)
    assert largest_difference(got, exact) < 0.01


def test_clips_of_one_program_do_not_mix(monkeypatch):
    """Four programs of one clip and two of two clips give the output of one program of four."""
    shapes, width, heads = CASES[SELF]
    given = arrays(shapes, width)[:3]
    values = []
    for rows in (26, 52, 800):
        monkeypatch.setattr(pallas_attention, "ROWS", rows)
        values.append(pallas_attention.attention(*given, heads))
    assert largest_difference(values[1:], [values[0]] * 2) < 1e-6
    alone = pallas_attention.attention([x[2:3] for x in given[0]], *given[1:], heads)
    assert largest_difference(alone, values[0][2:3]) < 1e-6


@pytest.mark.parametrize(("tokens", "dtype", "fits"), [(1568, "bfloat16", True), (1568, "float32", False)])
def test_sequences_whose_scores_do_not_fit_on_the_chip_use_xla(tokens, dtype, fits):
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((2, tokens, 3 * 384), (384,), (384,))]
    traced = jax.make_jaxpr(lambda x, *biases: attend([x], *biases, heads=6, kind="pallas"))(*shapes)
    assert ("pallas_call" in str(traced)) == fits


def test_large_scores_do_not_overflow():
    shapes, width, heads = CASES[SELF]
    projections, *others = arrays(shapes, width)
    got = value_and_gradients([100 * x for x in projections], *others, heads, "pallas")
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(got))


def test_projections_of_other_widths_are_refused():
    _, q_bias, v_bias, _ = arrays([(4, 128)], 128)
    with pytest.raises(ValueError, match=r"widths \[256\] are no queries, keys and values of 128 channels"):
        pallas_attention.attention([jnp.zeros((1, 4, 256))], q_bias, v_bias, 2)


@pytest.mark.parametrize("case", CASES)
def test_clips_sharded_over_a_mesh_are_not_moved(case):
    """In a loop, as in accumulation. Only the gradients of the biases are summed over devices."""
    shapes, width, heads = CASES[case]
    projections, q_bias, v_bias, cotangent = arrays(shapes, width, batch=16)
    mesh = sharding.make_mesh(fsdp=2)

    def twice(projections, q_bias, v_bias):
        def attended(total, _):
            return total + attend(projections, q_bias, v_bias, heads, "pallas"), None

        return jax.lax.scan(attended, jnp.zeros_like(cotangent), length=2)[0]

    def gradients(cotangent, *given):
        value, pull = jax.vjp(twice, *given)
        return value, pull(cotangent)

    where, everywhere = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    given = jax.device_put((cotangent, projections, q_bias, v_bias), (where, where, everywhere, everywhere))
    compiled = jax.jit(sharding.traced_on(mesh, gradients)).lower(*given).compile()
    text = compiled.as_text()
    assert "all-reduce" in text
    assert not [name for name in ("all-gather", "all-to-all", "collective-permute") if name in text]
    value, of_given = compiled(*given)
    assert value.sharding.is_equivalent_to(where, value.ndim)
    expected, of_expected = value_and_gradients(projections, q_bias, v_bias, cotangent, heads, "xla")
    assert (
        largest_difference((value, of_given), jax.tree.map(lambda x: 2 * x, (expected, of_expected))) < 1e-5
    )


def model_gradient(attention):
    """Loss, terms and gradient on eight devices, with the scan and remat choices of a TPU."""
    config = tiny_model.model_config(skip_connections=False, decoder_depth=2)
    execution = ExecutionConfig(attention=attention, scan_encoders=True, remat_encoder="full")
    mesh = sharding.make_mesh(fsdp=2)
    inputs = jax.device_put(tiny_model.inputs(config, batch=16), sharding.batch_sharding(mesh))
    params = jax.device_put(tiny_model.parameters(config, execution=execution), sharding.replicated(mesh))

    def loss(params, inputs):
        return pretrain_loss(HiCMAE(config, execution), params, inputs, LossConfig(negatives="group:2"))

    return jax.jit(sharding.traced_on(mesh, jax.value_and_grad(loss, has_aux=True)))(params, inputs)


@pytest.mark.slow
def test_loss_and_gradients_of_the_model_on_a_mesh_equal_those_with_xla():
    (total, terms), gradient = model_gradient("pallas")
    (expected, expected_terms), expected_gradient = model_gradient("xla")
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert_trees_close(terms, expected_terms, 1e-5)
    assert_trees_close(gradient, expected_gradient, 1e-5)
