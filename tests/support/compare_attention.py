"""Compare a kind of attention with XLA's on this machine's devices, in bfloat16.

    python -m tests.support.compare_attention cudnn

Prints the distances of values and gradients from those in float32, and fails if the kind is more
than twice as far away as XLA's own attention in bfloat16.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.model.attention import attend
from tests.support.trees import distances

# The places of HiCMAE-B: tokens that attend, tokens attended to (0: the same), width, heads.
PLACES: Mapping[str, Sequence[int]] = {
    "video decoder": (800, 0, 384, 6),
    "last block": (720, 800, 384, 6),
    "skips": (800, 80, 384, 6),
    "video encoder": (80, 0, 512, 8),
    "audio encoder": (26, 0, 512, 8),
    "fusion": (80, 26, 512, 8),
}


def inputs(queries: int, keys: int, width: int) -> tuple[Any, ...]:
    """Projections, biases and a gradient of the output, normal numbers in bfloat16."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape), jnp.bfloat16)

    shapes = [(queries, width), (keys, 2 * width)] if keys else [(queries, 3 * width)]
    return [normal(2, *shape) for shape in shapes], normal(width), normal(width), normal(2, queries, width)


@functools.partial(jax.jit, static_argnums=(4, 5))
def values(projections: Any, q_bias: Any, v_bias: Any, cotangent: Any, heads: int, kind: str) -> Any:
    """The output and all gradients."""
    output, pull = jax.vjp(
        lambda *arrays: attend(*arrays, heads=heads, kind=kind), projections, q_bias, v_bias
    )
    return output, pull(cotangent)


def main(kind: str) -> int:
    """Compares all places; returns the exit code."""
    failed = False
    for place, (queries, keys, width, heads) in PLACES.items():
        given = inputs(queries, keys, width)
        with jax.default_matmul_precision("highest"):
            exact = values(*jax.tree.map(lambda x: x.astype(jnp.float32), given), heads, "xla")
        own, xla = (distances(values(*given, heads, name), exact) for name in (kind, "xla"))
        far = any(x > 2 * y for x, y in zip(own, xla, strict=True))
        failed |= far
        shown = ", ".join(f"{x:.1e} ({y:.1e})" for x, y in zip(own, xla, strict=True))
        print(f"{'FAR  ' if far else 'close'} {place}: {kind} (xla): {shown}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
