"""The train state: what a step changes and a checkpoint holds."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from hicmae_jax.training import sharding


class TrainState(flax.struct.PyTreeNode):
    """State of a run between two steps.

    Attributes:
        step: int32[], updates made or skipped, which is the number of the next step.
        params: parameters, float32.
        opt_state: the optimiser's state, float32.
        replaced: int32[], clips so far that replaced an unreadable one.
        skipped: int32[], updates skipped so far because the loss or the gradient was not finite.
        skipped_in_row: int32[], updates skipped since the last one that was made.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    replaced: jax.Array
    skipped: jax.Array
    skipped_in_row: jax.Array


Initialise = Callable[[jax.Array], Mapping[str, Any]]


def abstract_state(
    initialise: Initialise, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh, scanned: bool
) -> TrainState:
    """Shapes and shardings of a state; nothing is computed.

    Args:
        initialise: key → parameters.
        optimizer: the optimiser.
        mesh: from `sharding.make_mesh`.
        scanned: whether the encoders' layers are stacked.

    Returns:
        A `TrainState` of `jax.ShapeDtypeStruct` with shardings.
    """
    shapes = jax.eval_shape(_initial(initialise, optimizer), jax.random.key(0))
    shardings = sharding.state_shardings(shapes, mesh, scanned)
    return jax.tree.map(
        lambda shape, where: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=where), shapes, shardings
    )


def create(
    initialise: Initialise, optimizer: optax.GradientTransformation, abstract: TrainState, key: jax.Array
) -> TrainState:
    """Make the state of step 0. Each device makes its own part, so none ever holds the whole state.

    Args:
        initialise: key → parameters.
        optimizer: the optimiser.
        abstract: from `abstract_state`.
        key: a typed PRNG key; the same key gives the same parameters on every mesh.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(_initial(initialise, optimizer), out_shardings=shardings)(key)


def _initial(
    initialise: Initialise, optimizer: optax.GradientTransformation
) -> Callable[[jax.Array], TrainState]:
    def initial(key: jax.Array) -> TrainState:
        params = initialise(key)
        counts = dict.fromkeys(("step", "replaced", "skipped", "skipped_in_row"), jnp.int32(0))
        return TrainState(params=params, opt_state=optimizer.init(params), **counts)

    return initial
