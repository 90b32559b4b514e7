"""Parts of a block, written so that XLA's GPU compiler moves less memory; values change by rounding only.

Each reads an activation as seldom as possible. `docs/scale.md` has what that saves.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


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
    # XLA makes one kernel of this, which reads x once, as long as nothing else uses the statistics.
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + epsilon) * scale + bias).astype(dtype)


def _keep_arguments(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: jnp.dtype
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _normalise(x, scale, bias, epsilon, dtype), (x, scale)


def _gradients(
    epsilon: float, dtype: jnp.dtype, kept: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale = kept
    given, size = cotangent.astype(jnp.float32), x.shape[-1]
    scaled = given * scale
    # One pass for all sums over a row, of values relative to one of them: the square of their mean is at most
    # `size` times the variance, so that the differences lose no more than `size` roundings of float32.
    shifted = x.astype(jnp.float32) - x[..., :1].astype(jnp.float32)
    products = (shifted, jnp.square(shifted), scaled, scaled * shifted)
    # Without the barrier, XLA computes the sums again wherever they are used, in more passes.
    sums = jax.lax.optimization_barrier(tuple(each.sum(-1, keepdims=True) for each in products))
    mean, square, of_mean, of_shifted = (each / size for each in sums)
    root = jax.lax.rsqrt(square - jnp.square(mean) + epsilon)
    of_root = root * (of_shifted - mean * of_mean)
    # Another pass for all gradients.
    standard = (shifted - mean) * root
    of_x = root * (scaled - of_mean - standard * of_root)
    rows = tuple(range(x.ndim - 1))
    return of_x.astype(x.dtype), (given * standard).sum(rows), given.sum(rows)


_normalise.defvjp(_keep_arguments, _gradients)


def in_rows(x: jax.Array) -> jax.Array:
    """Keep the channels of a token side by side in memory, and those of its gradient.

    Otherwise XLA may store the video encoder's tokens by channel, and transpose them for each product.

    Args:
        x: [B, N, C].
    """

    def on_device(x: jax.Array) -> jax.Array:
        return with_layout_constraint(x, Layout((0, 1, 2)))

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or jax.sharding.AxisType.Manual in mesh.axis_types:
        return on_device(x)
    # XLA cannot split a constraint of layout: it would gather the clips of all devices for it.
    clips = jax.P(mesh.axis_names)
    return jax.shard_map(on_device, in_specs=clips, out_specs=clips, check_vma=False)(x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def products(x: jax.Array, kernel: jax.Array, parts: int) -> tuple[jax.Array, ...]:
    """Products with equal parts of a matrix, each written as an array of its own, not to be cut out of one.

    Args:
        x: [B, N, C].
        kernel: [C, parts · D], of the dtype of `x` or float32; its gradient is computed, and devices sum it,
            in the same.
        parts: number of results.

    Returns:
        [B, N, D] each.
    """
    # Behind the barrier these are different arrays to XLA, which would otherwise make one product of all.
    same = jax.lax.optimization_barrier((x,) * parts)
    matrices = jnp.split(kernel.astype(x.dtype), parts, axis=-1)
    return tuple(each @ matrix for each, matrix in zip(same, matrices, strict=True))


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
    gradient = jnp.einsum("bnc,bnd->cd", x, joined, preferred_element_type=kernel.dtype)
    return joined @ kernel.astype(x.dtype).T, gradient


products.defvjp(_keep_factors, _of_factors)
