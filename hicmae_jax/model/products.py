"""Products of activations and matrices of parameters, as the settings of the execution ask for them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hicmae_jax.model.config import CPU_LAYOUT, ExecutionConfig


@jax.custom_vjp
def _summed_in_float32(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel` in the dtype of `x`; the kernel and its gradient are float32."""
    return x @ kernel.astype(x.dtype)


def _summed_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ kernel.astype(x.dtype), (x, kernel)


def _summed_backward(kept: tuple[jax.Array, jax.Array], pull: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    # The gradient is not rounded at the end either: XLA would then sum it in the dtype that it is rounded to.
    gradient = jnp.einsum("...i,...o->io", x, pull, preferred_element_type=jnp.float32)
    return pull @ kernel.astype(x.dtype).T, gradient


_summed_in_float32.defvjp(_summed_forward, _summed_backward)


def kernel_dtype(execution: ExecutionConfig) -> jnp.dtype:
    """Dtype in which a matrix of parameters goes into a product, and in which devices sum its gradient.

    XLA sums the gradient of a matrix over devices right after the product that computes it, and therefore in
    that product's dtype.
    """
    return jnp.dtype("float32" if execution.reduce_dtype == "float32" else execution.dtype)


def product(x: jax.Array, kernel: jax.Array, execution: ExecutionConfig) -> jax.Array:
    """Multiply activations by a matrix of parameters, in the dtype of the activations.

    The gradient of the matrix is a product over all tokens of all clips. Where clips and tokens are two
    dimensions, XLA for CPUs first transposes one side in memory. As one dimension, they go to its library as
    they are.

    Args:
        x: [B, N, rows].
        kernel: [rows, columns], of `kernel_dtype`.
        execution: its `layout` is that of the product.

    Returns:
        [B, N, columns] of the dtype of `x`.
    """
    multiply = jnp.matmul if kernel.dtype == x.dtype else _summed_in_float32
    if execution.layout != CPU_LAYOUT:
        return multiply(x, kernel)
    return multiply(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


def _keep_kernel(*arrays: jax.Array | None, dtype: jnp.dtype) -> list[jax.Array | None]:
    """Casts the input and the bias of a `nn.Dense`, but not its kernel."""
    return [array if array is None or n == 1 else array.astype(dtype) for n, array in enumerate(arrays)]


def dense(width: int, execution: ExecutionConfig, **options: Any) -> nn.Dense:
    """A linear layer.

    Args:
        width: features of the output.
        execution: see `product`; and its `dtype`.
        **options: other arguments of `nn.Dense`.
    """
    if execution.reduce_dtype == "float32":
        options["promote_dtype"] = _keep_kernel
    if execution.reduce_dtype == "float32" or execution.layout == CPU_LAYOUT:
        options["dot_general"] = lambda x, kernel, *_, **__: product(x, kernel, execution)
    return nn.Dense(width, dtype=jnp.dtype(execution.dtype), **options)
