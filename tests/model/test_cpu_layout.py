"""The layout of products for CPUs has the values and gradients of the plain one, also in the model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.model.attention import attend
from hicmae_jax.model.config import CPU_LAYOUT, PLAIN_LAYOUT, ExecutionConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.products import dense, product
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import pretrain_loss
from hicmae_jax.training import sharding
from tests.support import tiny_model
from tests.support.trees import assert_trees_close, largest_difference

# (tokens, channels) of the projections, width, heads: lengths that differ, and one or several heads.
CASES = {
    "self": ([(26, 3 * 32)], 32, 4),
    "one head": ([(9, 3 * 16)], 16, 1),
    "last rows": ([(21, 24), (29, 2 * 24)], 24, 2),
    "short context": ([(33, 48), (5, 2 * 48)], 48, 3),
}


def arrays(shapes, width, dtype=jnp.float32):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(2 * rng.standard_normal(shape), dtype)

    return (
        [normal(3, *shape) for shape in shapes],
        normal(width),
        normal(width),
        normal(3, shapes[0][0], width),
    )


@functools.partial(jax.jit, static_argnums=(4, 5))
def value_and_gradients(projections, q_bias, v_bias, cotangent, heads, by_head):
    function = functools.partial(attend, heads=heads, by_head=by_head)
    value, gradients = jax.vjp(function, projections, q_bias, v_bias)
    return value, gradients(cotangent)


@pytest.mark.parametrize("case", CASES)
def test_attention_by_head_has_the_values_and_gradients_of_xla(case):
    shapes, width, heads = CASES[case]
    given = arrays(shapes, width)
    expected, got = (value_and_gradients(*given, heads, by_head) for by_head in (False, True))
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
    assert largest_difference(got, expected) < 1e-5


def test_attention_by_head_stands_large_scores():
    projections, *others = arrays(*CASES["self"][:2])
    value, gradients = value_and_gradients([100 * projections[0]], *others, 4, True)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, gradients)))


def test_bfloat16_is_as_exact_as_with_xla():
    shapes, width, heads = CASES["self"]
    given = arrays(shapes, width, jnp.bfloat16)
    exact = value_and_gradients(*jax.tree.map(lambda x: x.astype(jnp.float32), given), heads, False)
    got, of_xla = (value_and_gradients(*given, heads, by_head) for by_head in (True, False))
    assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype(jnp.bfloat16)}
    assert largest_difference(got, exact) < 1.1 * largest_difference(of_xla, exact)


def test_a_product_in_each_layout_is_the_same():
    rng = np.random.default_rng(1)
    tokens, kernel = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((3, 5, 8), (8, 6)))
    for layout in (CPU_LAYOUT, PLAIN_LAYOUT):
        made = product(tokens, kernel, ExecutionConfig(layout=layout))
        np.testing.assert_allclose(made, np.asarray(tokens) @ np.asarray(kernel), rtol=1e-5, atol=1e-6)


def test_linear_layers_of_each_layout_share_parameters():
    tokens = jnp.asarray(np.random.default_rng(2).standard_normal((2, 5, 8)), jnp.float32)
    plain, cpu = (dense(6, ExecutionConfig(layout=layout)) for layout in (PLAIN_LAYOUT, CPU_LAYOUT))
    parameters = plain.init(jax.random.key(0), tokens)
    np.testing.assert_allclose(
        cpu.apply(parameters, tokens), plain.apply(parameters, tokens), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("execution", "devices"), [({}, 1), ({"scan_encoders": True, "remat_encoder": "full"}, 4)], ids=str
)
def test_the_model_has_the_same_loss_and_gradient(execution, devices):
    config = tiny_model.model_config()
    inputs = tiny_model.inputs(config)
    results = {}
    for layout in (PLAIN_LAYOUT, CPU_LAYOUT):
        how = ExecutionConfig(layout=layout, **execution)
        mesh = sharding.make_mesh(devices=jax.devices()[:devices])
        spread = jax.device_put(inputs, sharding.batch_sharding(mesh))
        params = jax.device_put(tiny_model.parameters(config, execution=how), sharding.replicated(mesh))
        loss = functools.partial(
            pretrain_loss, HiCMAE(config, how), config=LossConfig(negatives="global"), mesh=mesh
        )
        graded = jax.jit(sharding.traced_on(mesh, jax.value_and_grad(lambda p, x, f=loss: f(p, x)[0])))
        results[layout] = graded(params, spread)
    (loss, gradient), (expected, expected_gradient) = results[CPU_LAYOUT], results[PLAIN_LAYOUT]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert_trees_close(gradient, expected_gradient, 1e-5)


def test_the_gradients_of_weights_take_no_transposed_copy_of_the_tokens():
    """It is the reason for the layout: XLA transposes the tokens of a product with clips as a dimension."""
    tokens, kernel = jnp.ones((8, 16, 128)), jnp.ones((128, 256))

    def program(layout):
        execution = ExecutionConfig(layout=layout)
        gradient = jax.grad(lambda kernel, tokens: jnp.square(product(tokens, kernel, execution)).sum())
        return jax.jit(gradient).lower(kernel, tokens).compile().as_text()

    assert " transpose(" in program(PLAIN_LAYOUT)
    assert " transpose(" not in program(CPU_LAYOUT)
