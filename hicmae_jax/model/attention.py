"""Multi-head attention with a choice of implementation."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from hicmae_jax.model import head_attention, pallas_attention


def attend(
    projections: Sequence[jax.Array],
    q_bias: jax.Array,
    v_bias: jax.Array,
    heads: int,
    kind: str = "xla",
    by_head: bool = False,
) -> jax.Array:
    """softmax((q + q_bias) kᵀ / √d) (v + v_bias) of every head, softmax in float32.

    Args:
        projections: queries, keys and values side by side, [B, N, 3C]; or queries [B, N, C], and keys and
            values side by side, [B, M, 2C]; or all three separate. All of one dtype.
        q_bias: [C] of the same dtype.
        v_bias: likewise.
        heads: of contiguous channels; they divide C.
        kind: `xla`; or `pallas`, which uses the TPU kernel if the scores of a clip fit in on-chip memory,
            and XLA otherwise. According to the TPU compiler, the kernel moves less memory for all sequence
            lengths of the model, also for the encoders' 80 and 26 tokens and for cross-attention. Or `cudnn`,
            NVIDIA's kernel, for bfloat16 and heads of 8, 16, … 128 channels; according to the GPU compiler,
            the same is true of it (`docs/scale.md`).
        by_head: with `xla`, compute one head after the other, see `head_attention`.

    Returns:
        [B, N, C] of that dtype.

    Raises:
        RuntimeError: cuDNN is not installed, or does not take these shapes.
    """
    width = q_bias.shape[0]
    if kind == "pallas" and pallas_attention.fits(projections, width, heads):
        return pallas_attention.attention(projections, q_bias, v_bias, heads)
    query, key, value = (part for x in projections for part in jnp.split(x, x.shape[-1] // width, axis=-1))
    query, value = query + q_bias, value + v_bias
    if by_head and kind == "xla":
        return head_attention.attention(query, key, value, heads)

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], heads, -1)

    given = split(query), split(key), split(value)
    return (_by_cudnn(*given) if kind == "cudnn" else jax.nn.dot_product_attention(*given)).reshape(
        query.shape
    )


def _by_cudnn(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    try:
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
    except RuntimeError as error:  # also what JAX raises for shapes that cuDNN does not take
        raise RuntimeError(
            f"cuDNN cannot compute attention here ({error}): set execution.attention = 'xla'"
        ) from error
