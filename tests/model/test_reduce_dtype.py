"""Gradients of matrices that devices sum in float32."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.products import kernel_dtype, product
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import pretrain_loss
from hicmae_jax.training import sharding
from tests.support import tiny_model
from tests.support.trees import assert_trees_close

LOSS = LossConfig(negatives="global")


def pulled(x, kernel, pull, reduce_dtype):
    """The product, and its gradient in both arrays; the kernel is float32, as parameters are."""
    execution = ExecutionConfig(dtype="bfloat16", reduce_dtype=reduce_dtype)
    value, back = jax.vjp(
        lambda x, kernel: product(x, kernel.astype(kernel_dtype(execution)), execution), x, kernel
    )
    return value, *back(pull)


def test_the_product_and_the_gradient_of_the_activations_stay_the_same():
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel, pull = (
        jax.random.normal(key, shape, jnp.bfloat16)
        for key, shape in zip(keys, ((4, 6, 8), (8, 16), (4, 6, 16)), strict=True)
    )
    kernel = kernel.astype(jnp.float32)
    plain, float32 = (pulled(x, kernel, pull, kind) for kind in ("computed", "float32"))
    dtypes = [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    assert [array.dtype for array in plain] == [array.dtype for array in float32] == dtypes
    np.testing.assert_array_equal(float32[0], plain[0])
    np.testing.assert_array_equal(float32[1], plain[1])
    exact = np.einsum("abi,abo->io", *(np.asarray(array, np.float64) for array in (x, pull)))
    np.testing.assert_allclose(float32[2], exact, rtol=1e-5, atol=1e-5)
    assert np.abs(np.asarray(plain[2]) - exact).max() > 1e-3  # it is rounded


def test_devices_sum_the_gradient_without_rounding_their_parts():
    """Two devices' parts nearly cancel. In bfloat16 what is left is lost."""
    mesh = sharding.make_mesh()
    rows = np.zeros((2 * mesh.size, 1), np.float32)
    rows[:3, 0] = 1, 2**-9, -1  # the first device has 1 + 2⁻⁹, which bfloat16 rounds to 1
    x = jax.device_put(rows.astype(jnp.bfloat16), sharding.batch_sharding(mesh))
    pull = jnp.ones_like(x)
    kernel = jax.device_put(jnp.ones((1, 1)), sharding.replicated(mesh))
    # By default XLA computes in float32 on CPUs where a program says bfloat16.
    gradient = jax.jit(
        lambda *arrays, kind: pulled(*arrays, kind)[2],
        static_argnames="kind",
        compiler_options={"xla_allow_excess_precision": False},
    )
    assert float(gradient(x, kernel, pull, kind="float32")[0, 0]) == 2**-9
    assert float(gradient(x, kernel, pull, kind="computed")[0, 0]) == 0


def gradient_of(model, **choices):
    inputs, params = tiny_model.inputs(model), tiny_model.parameters(model)
    objective = HiCMAE(model, ExecutionConfig(**choices))
    function = jax.grad(lambda params: pretrain_loss(objective, params, inputs, LOSS)[0])
    return function, params


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_every_matrix_of_the_model_has_its_gradient_summed_in_float32(remat):
    """Products of two dimensions are the gradients of matrices; all others have the batch too."""
    model = tiny_model.model_config()
    stacks = {f"remat_{name}": remat for name in ("encoder", "fusion", "decoder")}

    def products(kind):
        function, params = gradient_of(model, dtype="bfloat16", reduce_dtype=kind, **stacks)
        text = str(jax.make_jaxpr(function)(params))
        return [len(re.findall(rf":{dtype}\[\d+,\d+\] = dot_general\[", text)) for dtype in ("bf16", "f32")]

    (rounded, others), (left, whole) = products("computed"), products("float32")
    assert rounded > 50
    assert (left, whole) == (0, rounded + others)


def test_gradients_differ_by_rounding_alone():
    model = tiny_model.model_config()
    plain, float32 = (
        function(params)
        for function, params in (
            gradient_of(model, dtype="bfloat16", reduce_dtype=kind) for kind in ("computed", "float32")
        )
    )
    assert_trees_close(float32, plain, 2.0**-7)
