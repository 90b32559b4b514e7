"""Trust ratio of LAMB: updates in proportion to the norm of a layer (You et al. 2020, arXiv 1904.00962)."""

import re
from typing import Any

import jax
import optax

from hicmae_jax.training import path_rules

STACKED = re.compile(r"/blocks/")
"""In the path of a parameter whose first dimension is the layers of a scanned encoder."""


def scale_by_trust_ratio(mask: Any) -> optax.GradientTransformation:
    """Scale each update to the norm of its parameter.

    A stack of layers has one ratio for each layer, so that scanned encoders learn as unrolled ones do. A
    ratio is 1 if the parameter or its update is all zeros.

    Args:
        mask: tree of booleans like the parameters', what to scale; the rest keeps its update.

    Returns:
        A transformation without state, which needs the parameters.
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
