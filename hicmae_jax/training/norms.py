"""Euclidean norms of gradient and parameters, for the log and to find numbers that are not finite."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hicmae_jax.training.sharding import FSDP

Norm = Callable[[Any], jax.Array]
"""Tree of arrays → its norm, a scalar."""

SMALL = 2**16
"""Leaves of fewer elements are joined before they are squared."""


def for_devices(mesh: jax.sharding.Mesh) -> Norm:
    """The norm that suits the devices: on GPUs that hold whole parameters, the one of few kernels."""
    few = mesh.devices.flat[0].platform == "gpu" and mesh.shape[FSDP] == 1
    return of_joined_leaves if few else optax.tree.norm


def before_update(norm: Norm, grads: Any, params: Any) -> tuple[jax.Array, jax.Array | None]:
    """The norm of the gradient, and on GPUs that of the parameters.

    XLA's GPU compiler would take the latter after the update, which writes over the parameters, and copy them
    for it. The barrier puts it before, for the update waits for the norm of the gradient.

    Args:
        norm: from `for_devices`.
        grads: tree of arrays.
        params: tree of arrays.
    """
    if norm is not of_joined_leaves:
        return norm(grads), None
    both: tuple[jax.Array, jax.Array] = jax.lax.optimization_barrier((norm(grads), norm(params)))
    return both


def of_joined_leaves(tree: Any) -> jax.Array:
    """The norm of a tree by few kernels: small leaves are joined first, and the sums of rows of large ones.

    Args:
        tree: float32 arrays, some small and some large.
    """
    leaves = jax.tree.leaves(tree)
    small = [leaf.ravel() for leaf in leaves if leaf.size < SMALL]
    rows = [jnp.square(leaf).sum(-1).ravel() for leaf in leaves if leaf.size >= SMALL]
    total = jnp.square(jnp.concatenate(small)).sum() if small else jnp.zeros(())
    if rows:
        # Without the barrier, XLA adds up each of the joined arrays by itself.
        total += jax.lax.optimization_barrier(jnp.concatenate(rows)).sum()
    return jnp.sqrt(total)
