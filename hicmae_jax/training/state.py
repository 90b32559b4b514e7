"""What a step changes and a checkpoint holds."""

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
        step: int32[], updates made or skipped; the number of the next step.
        params: parameters, float32.
        opt_state: the optimiser's state, float32.
        replaced: int32[], clips so far that stood in for an unreadable one.
        skipped: int32[], updates so far that were skipped, for a loss or gradient that was not finite.
        skipped_in_row: int32[], those since the last one that was made.
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
    """Shapes and shardings of a state, without making it.

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
    """Make the state of step 0, each device its own part: no host or device ever holds all of it.

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
