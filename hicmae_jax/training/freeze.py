"""Keeps some parameters as they are: they get neither gradient nor update."""

from typing import Any

import jax
import optax


def without_gradient(params: Any, frozen: Any) -> Any:
    """Stop the gradient at frozen parameters, so that their backward pass is not computed.

    Args:
        params: parameters.
        frozen: tree of booleans of the same structure.
    """
    return jax.tree.map(lambda leaf, stop: jax.lax.stop_gradient(leaf) if stop else leaf, params, frozen)


def without_update(optimizer: optax.GradientTransformation, frozen: Any) -> optax.GradientTransformation:
    """An optimiser that leaves frozen parameters as they are; weight decay does not change them either.

    Args:
        optimizer: the optimiser of all parameters.
        frozen: tree of booleans, of the parameters' structure.
    """
    return optax.chain(optimizer, optax.masked(optax.set_to_zero(), frozen))
