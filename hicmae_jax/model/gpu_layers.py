"""Parts of a block, written so that XLA's GPU compiler moves less memory; values change by rounding only.

Each reads an activation as seldom as possible. `docs/scale.md` has what that saves.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class LayerNorm(nn.Module):
    """LayerNorm with float32 statistics; the parameters are those of `flax.linen.LayerNorm`.

    Attributes:
        epsilon: added to the variance.
        dtype: of the result.
    """

    epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise the last axis: [B, N, C] → [B, N, C]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return _normalise(x, scale, bias, self.epsilon, self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: jnp.dtype
) -> jax.Array:
    return _keep_sums(x, scale, bias, epsilon, dtype)[0]


def _keep_sums(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: jnp.dtype
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    # One pass for both sums, of values relative to one of them: the square of their mean is at most C times
    # the variance, so that the difference loses no more than C roundings of float32.
    centred = _centred(x)
    sums = centred.sum(-1, keepdims=True), jnp.square(centred).sum(-1, keepdims=True)
    # Without the barrier, XLA computes the sums again wherever they are used, in more passes.
    first, second = jax.lax.optimization_barrier(sums)
    standard, _ = _standard(x, first, second, epsilon)
    return (standard * scale + bias).astype(dtype), (x, scale, first, second)


def _gradients(
    epsilon: float, dtype: jnp.dtype, kept: tuple[jax.Array, ...], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, first, second = kept
    standard, root = _standard(x, first, second, epsilon)
    given = cotangent.astype(jnp.float32)
    scaled = given * scale
    sums = scaled.sum(-1, keepdims=True), (scaled * standard).sum(-1, keepdims=True)
    # One pass for these sums, and another one for all gradients.
    of_mean, of_root = jax.lax.optimization_barrier(sums)
    of_x = root * (scaled - (of_mean + standard * of_root) / x.shape[-1])
    rows = tuple(range(x.ndim - 1))
    return of_x.astype(x.dtype), (given * standard).sum(rows), given.sum(rows)


def _centred(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) - x[..., :1].astype(jnp.float32)


def _standard(
    x: jax.Array, first: jax.Array, second: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array]:
    """Rows of mean 0 and variance 1, and the inverse of the deviations that they had, from their sums."""
    mean = first / x.shape[-1]
    root = jax.lax.rsqrt(second / x.shape[-1] - jnp.square(mean) + epsilon)
    return (_centred(x) - mean) * root, root


_normalise.defvjp(_keep_sums, _gradients)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def products(x: jax.Array, kernel: jax.Array, parts: int) -> tuple[jax.Array, ...]:
    """Products with equal parts of a matrix, each written as an array of its own, not to be cut out of one.

    Args:
        x: [B, N, C].
        kernel: [C, parts · D] of the same dtype.
        parts: number of results.

    Returns:
        [B, N, D] each.
    """
    # Behind the barrier these are different arrays to XLA, which would otherwise make one product of all.
    same = jax.lax.optimization_barrier((x,) * parts)
    return tuple(each @ part for each, part in zip(same, jnp.split(kernel, parts, axis=-1), strict=True))


def _keep_factors(
    x: jax.Array, kernel: jax.Array, parts: int
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array]]:
    return products(x, kernel, parts), (x, kernel)


def _of_factors(
    parts: int, kept: tuple[jax.Array, jax.Array], cotangents: Sequence[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # Backwards, one product over all parts reads less than the sum of several.
    x, kernel = kept
    joined = jnp.concatenate(cotangents, axis=-1)
    return joined @ kernel.T, jnp.einsum("bnc,bnd->cd", x, joined)


products.defvjp(_keep_factors, _of_factors)
