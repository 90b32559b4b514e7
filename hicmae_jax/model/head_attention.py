"""Attention of one head after the other, for CPUs.

The scores of one head at a time are few enough for a CPU's cache, and XLA multiplies them in its library of
matrix products without bringing the heads before the tokens first.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, list[jax.Array], list[jax.Array]]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def attention(query: jax.Array, key: jax.Array, value: jax.Array, heads: int) -> jax.Array:
    """softmax(q kᵀ / √d) v of every head, softmax in float32.

    Args:
        query: [B, N, C].
        key: [B, M, C] of the same dtype.
        value: likewise.
        heads: of contiguous channels; they divide C.

    Returns:
        [B, N, C] of that dtype.
    """
    return _forward(query, key, value, heads)[0]


def _forward(query: jax.Array, key: jax.Array, value: jax.Array, heads: int) -> tuple[jax.Array, Residuals]:
    scale = (query.shape[-1] // heads) ** -0.5
    outputs, weights, scales = [], [], []
    for q, k, v in zip(*_split((query, key, value), heads), strict=True):
        scores = _product("bnd,bmd->bnm", q * scale, k)
        exponentials = jnp.exp(scores - scores.max(-1, keepdims=True))
        # Dividing the outputs, not the weights, spares the CPU a pass over N · M numbers.
        scales.append(1 / exponentials.sum(-1, keepdims=True))
        weights.append(exponentials.astype(v.dtype))
        outputs.append(_product("bnm,bmd->bnd", weights[-1], v) * scales[-1])
    output = jnp.concatenate(outputs, axis=-1).astype(query.dtype)
    return output, (query, key, value, output, weights, scales)


def _backward(
    heads: int, residuals: Residuals, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    *arrays, weights, scales = residuals
    scale = (gradient.shape[-1] // heads) ** -0.5
    gradients = []
    parts = _split((*arrays, gradient), heads)
    for q, k, v, out, g, weight, share in zip(*parts, weights, scales, strict=True):
        # The row sums of the gradient in the weights times the weights.
        mean = (g * out).sum(-1, keepdims=True, dtype=jnp.float32)
        in_weights = _product("bnd,bmd->bnm", g, v)
        in_scores = (weight * ((in_weights - mean) * share)).astype(q.dtype)
        in_query = _product("bnm,bmd->bnd", in_scores, k) * scale
        in_key = _product("bnm,bnd->bmd", in_scores, q * scale)
        in_value = _product("bnm,bnd->bmd", weight, (g * share).astype(g.dtype))
        gradients.append((in_query, in_key, in_value))
    in_query, in_key, in_value = (
        jnp.concatenate(parts, axis=-1).astype(gradient.dtype) for parts in zip(*gradients, strict=True)
    )
    return in_query, in_key, in_value


attention.defvjp(_forward, _backward)


def _split(arrays: Sequence[jax.Array], heads: int) -> list[list[jax.Array]]:
    return [jnp.split(x, heads, axis=-1) for x in arrays]


def _product(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """A matrix product for each clip, in float32."""
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)
