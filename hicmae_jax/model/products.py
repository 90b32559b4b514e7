"""Products of tokens and weights, in the layout that the devices multiply fastest.

The gradient of a weight is a product over all tokens of all clips. Where clips and tokens are two dimensions,
XLA for CPUs first transposes one side in memory. As one dimension, they go to its library as they are.
"""

from typing import Any

import flax.linen as nn
import jax

from hicmae_jax.model.config import CPU_LAYOUT


def times(tokens: jax.Array, kernel: jax.Array, layout: str) -> jax.Array:
    """Multiply tokens [B, N, C] by a kernel [C, D]: → [B, N, D].

    Args:
        tokens: of clips.
        kernel: of the same dtype.
        layout: see `ExecutionConfig`.
    """
    if layout != CPU_LAYOUT:
        return tokens @ kernel
    return (tokens.reshape(-1, tokens.shape[-1]) @ kernel).reshape(*tokens.shape[:-1], -1)


def dense(features: int, layout: str, **arguments: Any) -> nn.Dense:
    """A linear layer whose product is that of `times`.

    Args:
        features: number of outputs.
        layout: see `ExecutionConfig`.
        **arguments: of `nn.Dense`.
    """
    if layout == CPU_LAYOUT:
        arguments["dot_general"] = _flat
    return nn.Dense(features, **arguments)


def _flat(tokens: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """`times` as a `dot_general` of `nn.Dense`, which contracts the last dimension with the first."""
    return times(tokens, kernel, CPU_LAYOUT)
