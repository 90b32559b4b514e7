"""LAMB's trust ratio: scales each update to the norm of its layer (You et al. 2020, arXiv 1904.00962)."""

import re
from typing import Any

import jax
import optax

from hicmae_jax.training import path_rules

STACKED = re.compile(r"/blocks/")
"""Found in the path of a parameter that stacks the layers of a scanned encoder in its first dimension."""


def scale_by_trust_ratio(mask: Any) -> optax.GradientTransformation:
    """Scale each update to the norm of its parameter.

    In a stack of layers, each layer has its own ratio, so scanned and unrolled encoders train alike. The
    ratio is 1 if the parameter or its update is all zeros.

    Args:
        mask: tree of booleans with the structure of the parameters: which updates to scale.

    Returns:
        A transformation without state; its `update` needs the parameters.
    """
    ratio = optax.scale_by_trust_ratio()

    def of_layer(update: jax.Array, param: jax.Array) -> jax.Array:
        return ratio.update(update, optax.EmptyState(), param)[0]

    def scaled(path: tuple[Any, ...], update: jax.Array, param: jax.Array, chosen: bool) -> jax.Array:
        if not chosen:
            return update
        each = jax.vmap(of_layer) if STACKED.search(path_rules.path_of(path)) else of_layer
        return each(update, param)

    def update(updates: Any, params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(scaled, updates, params, mask)

    return optax.stateless(update)
