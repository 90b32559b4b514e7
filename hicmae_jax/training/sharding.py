"""Shardings of all arrays: one mesh, rules for the parameters, one sharding for the batch.

The mesh has two axes. Both split the batch; `fsdp` also splits parameters and optimiser state, which XLA
gathers where they are used. With `fsdp=1` every device holds all of them (data parallel).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils

from hicmae_jax.training import path_rules

DATA, FSDP = "data", "fsdp"


def make_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Arrange devices as (data, fsdp).

    Neighbours on the mesh are neighbours on the network of the devices. A slower network may join several
    slices (a host of GPUs is a slice too). If the parameters fit, each slice then holds whole copies of them:
    gathering parameters stays inside a slice, and only the sum of the gradients crosses the slower network.

    Args:
        fsdp: devices that share one copy of the parameters; the other axis takes the rest.
        devices: to use; None takes all. CPUs stay in their order. Devices of a topology without hardware,
            to compile for, are possible too.

    Raises:
        ValueError: `fsdp` does not divide the number of devices, or it neither fits into a slice nor fills
            whole slices.
    """
    devices = jax.devices() if devices is None else list(devices)
    slices: dict[int, list[jax.Device]] = {}
    for device in devices:
        slices.setdefault(getattr(device, "slice_index", 0), []).append(device)
    count, each = len(devices), len(devices) // len(slices)
    if fsdp < 1 or count % fsdp:
        raise ValueError(f"fsdp = {fsdp} does not divide the {count} devices: choose a divisor of {count}")
    # Two axes on a network of three: one of its axes may have to serve both.
    arrange = functools.partial(mesh_utils.create_device_mesh, allow_split_physical_axes=True)
    if len(slices) == 1:
        arranged = arrange((count // fsdp, fsdp), devices)
    elif each % fsdp == 0:
        arranged = mesh_utils.create_hybrid_device_mesh(
            (each // fsdp, fsdp), (len(slices), 1), devices, allow_split_physical_axes=True
        )
    elif fsdp % each == 0:
        in_order = [arrange((each,), slices[index]) for index in sorted(slices)]
        arranged = np.concatenate(in_order).reshape(-1, fsdp)
    else:
        raise ValueError(
            f"fsdp = {fsdp} neither fits into a slice of {each} devices nor fills several: choose a divisor "
            f"or a multiple of {each}"
        )
    # Automatic: XLA propagates shardings through the model, which names none.
    kinds = (jax.sharding.AxisType.Auto,) * 2
    return jax.sharding.Mesh(arranged, (DATA, FSDP), axis_types=kinds)


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Sharding of every array of a batch: the leading dimension over all devices."""
    return jax.sharding.NamedSharding(mesh, jax.P((DATA, FSDP)))


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Sharding of arrays that every device holds whole."""
    return jax.sharding.NamedSharding(mesh, jax.P())


def traced_on(mesh: jax.sharding.Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """Put the mesh in the context while a function, to be jitted, is traced.

    XLA cannot split custom kernels, so they ask the context how the batch is sharded.
    """

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **kwargs)

    return traced


def _split_largest(shape: Sequence[int], fsdp: int, skip: int = 0) -> jax.P:
    """Split the largest dimension that `fsdp` divides, not one of the first `skip`; replicate if none is."""
    able = [axis for axis in range(skip, len(shape)) if shape[axis] % fsdp == 0]
    if not able or fsdp == 1:
        return jax.P()
    largest = max(able, key=lambda axis: shape[axis])
    return jax.P(*[FSDP if axis == largest else None for axis in range(largest + 1)])


def state_rules(fsdp: int, scan_encoders: bool) -> tuple[path_rules.Rule, ...]:
    """Rules for a train state; the same rules cover the parameters and both Adam moments.

    Args:
        fsdp: size of the axis.
        scan_encoders: whether the layers of the encoders are stacked. Their first dimension, over which the
            scan loops, then stays whole.
    """
    stacked = ((r"/blocks/.+/kernel$", lambda _, leaf: _split_largest(leaf.shape, fsdp, skip=1)),)
    return (
        *(stacked if scan_encoders else ()),
        (r"/kernel$", lambda _, leaf: _split_largest(leaf.shape, fsdp)),
        # Vectors take a thousandth of the memory, and gathering each one would cost a message.
        (r"/(bias|q_bias|v_bias|scale|mask_token(_audio)?|\w+_layer_weights)$", jax.P()),
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
        ValueError: no rule covers a leaf, or a rule covers no leaf.
    """
    specs = path_rules.match(state_rules(mesh.shape[FSDP], scan_encoders), state)
    return jax.tree.map(lambda spec: jax.sharding.NamedSharding(mesh, spec), specs)
