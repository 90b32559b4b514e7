"""The parts of a block for GPUs have the values, gradients and parameters of those that they replace."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.model import gpu_layers
from hicmae_jax.training import sharding


def assert_close(trees, expected, tolerance):
    """Compare arrays; the tolerance is relative to the largest value of each."""
    pairs = zip(jax.tree.leaves(trees), jax.tree.leaves(expected), strict=True)
    for value, wanted in pairs:
        np.testing.assert_allclose(value, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def normal(*shape, seed=0, scale=1.0, offset=0.0):
    return jnp.asarray(offset + scale * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


# Of rows of ordinary numbers; with a mean a hundred times the deviation; with one number that is far away.
ROWS = {
    "ordinary": normal(3, 5, 64),
    "large mean": normal(3, 5, 64, offset=100.0),
    "outlier first": normal(3, 5, 64).at[..., 0].set(50.0),
    "small": normal(3, 5, 64, scale=1e-2),
}


@pytest.mark.parametrize("x", ROWS.values(), ids=ROWS)
def test_layer_norm_has_the_values_and_gradients_of_flax(x):
    own = gpu_layers.LayerNorm(1e-6, jnp.float32)
    flax = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)
    params = {"params": {"scale": normal(64, seed=1, offset=1.0), "bias": normal(64, seed=2)}}
    cotangent = normal(*x.shape, seed=3)
    assert jax.tree.map(jnp.shape, own.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, params)
    (value, pull), (expected, expected_pull) = (jax.vjp(module.apply, params, x) for module in (own, flax))
    assert_close(value, expected, 1e-6)
    assert_close(pull(cotangent), expected_pull(cotangent), 1e-4)


def test_layer_norm_begins_like_that_of_flax():
    x = normal(2, 3, 8)
    own, flax = gpu_layers.LayerNorm(1e-6, jnp.float32), nn.LayerNorm(epsilon=1e-6)
    assert_close(own.init(jax.random.key(0), x), flax.init(jax.random.key(0), x), 0)


def test_layer_norm_of_bfloat16_is_that_of_float32_rounded():
    x = normal(3, 5, 64).astype(jnp.bfloat16)
    own = gpu_layers.LayerNorm(1e-6, jnp.bfloat16)
    params = own.init(jax.random.key(0), x)
    assert jax.tree.map(lambda leaf: leaf.dtype, params) == jax.tree.map(lambda _: jnp.float32, params)
    value, pull = jax.vjp(own.apply, params, x)
    (of_params, of_x) = pull(normal(3, 5, 64, seed=3).astype(jnp.bfloat16))
    assert (value.dtype, of_x.dtype, of_params["params"]["scale"].dtype) == (
        jnp.bfloat16,
        jnp.bfloat16,
        jnp.float32,
    )
    exact = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False).apply(params, x.astype(jnp.float32))
    np.testing.assert_allclose(np.asarray(value, np.float32), exact, rtol=2**-8, atol=2**-8)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_products_have_the_values_and_gradients_of_one_product(parts):
    x, kernel = normal(2, 5, 16), normal(16, parts * 8, seed=1)
    cotangent = normal(2, 5, parts * 8, seed=2)
    products, pull = jax.vjp(lambda x, kernel: gpu_layers.products(x, kernel, parts), x, kernel)
    expected, expected_pull = jax.vjp(jnp.matmul, x, kernel)
    assert [product.shape for product in products] == [(2, 5, 8)] * parts
    assert_close(jnp.concatenate(products, axis=-1), expected, 1e-6)
    given = tuple(jnp.split(cotangent, parts, axis=-1))
    assert_close(pull(given), expected_pull(cotangent), 1e-6)


def test_tokens_in_rows_stay_on_their_devices_with_their_gradient():
    mesh = sharding.make_mesh(fsdp=2)
    where = sharding.batch_sharding(mesh)
    x, cotangent = jax.device_put((normal(16, 5, 8), normal(16, 5, 8, seed=1)), where)

    def gradient(x, cotangent):
        value, pull = jax.vjp(lambda x: 2 * gpu_layers.in_rows(3 * x), x)
        return value, pull(cotangent)[0]

    compiled = jax.jit(sharding.traced_on(mesh, gradient)).lower(x, cotangent).compile()
    text = compiled.as_text()
    assert not [name for name in ("all-gather", "all-to-all", "collective-permute") if name in text]
    value, of_x = compiled(x, cotangent)
    assert_close((value, of_x), (6 * x, 6 * cotangent), 1e-6)
    assert value.sharding.is_equivalent_to(where, value.ndim)
