"""Where every array lives: one mesh, rules for the parameters, one sharding for the batch.

The mesh has two axes. Both split the batch; `fsdp` also splits parameters and optimiser state, which XLA
gathers where they are used. With `fsdp=1` every device holds all of them (data parallel).
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hicmae_jax import rules

DATA, FSDP = "data", "fsdp"


def make_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Arrange devices as (data, fsdp).

    Args:
        fsdp: devices that share one copy of the parameters; the other axis takes the rest.
        devices: to use in this order; None takes all, in the order that suits their network.

    Raises:
        ValueError: `fsdp` does not divide the number of devices.
    """
    count = jax.device_count() if devices is None else len(devices)
    if fsdp < 1 or count % fsdp:
        raise ValueError(f"fsdp = {fsdp} does not divide the {count} devices: choose a divisor of {count}")
    shape = (count // fsdp, fsdp)
    # Automatic: XLA propagates shardings through the model, which names none.
    kinds = (jax.sharding.AxisType.Auto,) * 2
    if devices is not None:
        return jax.sharding.Mesh(np.asarray(devices).reshape(shape), (DATA, FSDP), axis_types=kinds)
    return jax.make_mesh(shape, (DATA, FSDP), axis_types=kinds)


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Sharding of the leading dimension of every array of a batch: over all devices."""
    return jax.sharding.NamedSharding(mesh, jax.P((DATA, FSDP)))


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Sharding of what every device holds whole."""
    return jax.sharding.NamedSharding(mesh, jax.P())


def _split_largest(shape: Sequence[int], fsdp: int, skip: int = 0) -> jax.P:
    """Split the largest dimension that `fsdp` divides, from number `skip` on; none: replicate."""
    able = [axis for axis in range(skip, len(shape)) if shape[axis] % fsdp == 0]
    if not able or fsdp == 1:
        return jax.P()
    largest = max(able, key=lambda axis: shape[axis])
    return jax.P(*[FSDP if axis == largest else None for axis in range(largest + 1)])


def state_rules(fsdp: int, scan_encoders: bool) -> tuple[rules.Rule, ...]:
    """How a train state is split; the same rules cover parameters and both Adam moments.

    Args:
        fsdp: size of the axis.
        scan_encoders: whether the encoders' layers are stacked: their first dimension is the loop's and
            stays whole.
    """
    stacked = ((r"/blocks/.+/kernel$", lambda _, leaf: _split_largest(leaf.shape, fsdp, skip=1)),)
    return (
        *(stacked if scan_encoders else ()),
        (r"/kernel$", lambda _, leaf: _split_largest(leaf.shape, fsdp)),
        # Vectors are a thousandth of the memory, and gathering each costs a message.
        (r"/(bias|q_bias|v_bias|scale|mask_token(_audio)?)$", jax.P()),
        (r"(^|/)(step|count|replaced|skipped(_in_row)?)$", jax.P()),
    )


def state_shardings(state: Any, mesh: jax.sharding.Mesh, scan_encoders: bool) -> Any:
    """Shardings of a train state.

    Args:
        state: a `TrainState` of arrays or shapes.
        mesh: from `make_mesh`.
        scan_encoders: see `state_rules`.

    Returns:
        A tree of `NamedSharding`.

    Raises:
        ValueError: a leaf that no rule covers, or a rule that covers none.
    """
    specs = rules.match(state_rules(mesh.shape[FSDP], scan_encoders), state)
    return jax.tree.map(lambda spec: jax.sharding.NamedSharding(mesh, spec), specs)
