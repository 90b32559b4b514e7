"""Products of activations and matrices of parameters, as the settings of the execution ask for them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hicmae_jax.model.config import CPU_LAYOUT, ExecutionConfig


@jax.custom_vjp
def _summed_in_float32(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel`, whose gradient in the kernel is computed and summed in float32, and then rounded."""
    return x @ kernel


def _summed_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ kernel, (x, kernel)


def _summed_backward(kept: tuple[jax.Array, jax.Array], pull: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    gradient = jnp.einsum("...i,...o->io", x, pull, preferred_element_type=jnp.float32)
    return pull @ kernel.T, gradient.astype(kernel.dtype)


_summed_in_float32.defvjp(_summed_forward, _summed_backward)


def product(x: jax.Array, kernel: jax.Array, execution: ExecutionConfig) -> jax.Array:
    """Multiply activations by a matrix of parameters.

    XLA sums the gradient of the matrix over devices right after the product that computes it, and therefore
    in that product's dtype. That gradient is a product over all tokens of all clips. Where clips and tokens
    are two dimensions, XLA for CPUs first transposes one side in memory. As one dimension, they go to its
    library as they are.

    Args:
        x: [B, N, rows].
        kernel: [rows, columns], of the same dtype.
        execution: its `reduce_dtype` is that of the sum, and its `layout` that of the product.

    Returns:
        [B, N, columns].
    """
    multiply = _summed_in_float32 if execution.reduce_dtype == "float32" else jnp.matmul
    if execution.layout != CPU_LAYOUT:
        return multiply(x, kernel)
    return multiply(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


def dense(width: int, execution: ExecutionConfig, **options: Any) -> nn.Dense:
    """A linear layer.

    Args:
        width: features of the output.
        execution: see `product`; and its `dtype`.
        **options: other arguments of `nn.Dense`.
    """
    return nn.Dense(width, dtype=jnp.dtype(execution.dtype), dot_general=_dense_product(execution), **options)


def _dense_product(execution: ExecutionConfig) -> Callable[..., jax.Array] | None:
    """`product` as the `dot_general` of a `nn.Dense`; None is its default."""
    if execution.reduce_dtype != "float32" and execution.layout != CPU_LAYOUT:
        return None
    return lambda x, kernel, *_, **__: product(x, kernel, execution)
