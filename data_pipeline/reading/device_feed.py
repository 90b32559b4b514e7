"""From a host's rows to global arrays on the devices.

Which rows of the global batch a host reads is decided by the sharding, so that the global array of a step is
the same on every mesh: row `r` is the clip at position `step * batch + r` of the order.
"""

import collections
from collections.abc import Iterable, Iterator

import jax
import numpy as np


def sharding_rows(sharding: jax.sharding.Sharding, batch: int) -> list[int]:
    """Rows of the global batch that this process's devices hold, ascending.

    A mesh laid out along a torus need not give a process neighbouring rows; `to_device` expects these.

    Args:
        sharding: of an array's leading dimension.
        batch: rows of the global batch.

    Raises:
        ValueError: the sharding does not divide the batch.
    """
    try:
        slices = sharding.addressable_devices_indices_map((batch,)).values()
    except ValueError as error:
        raise ValueError(f"a batch of {batch} clips does not divide over the mesh: {error}") from error
    return sorted({row for (rows,) in slices for row in range(batch)[rows]})


def to_device(
    batches: Iterable[dict[str, np.ndarray]], sharding: jax.sharding.Sharding, batch: int, ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """Send batches to the devices, `ahead` of them before they are asked for (2: double buffering).

    Args:
        batches: this host's rows of each batch, as `sharding_rows` names them.
        sharding: of the leading dimension of every array.
        batch: rows of the global batch.
        ahead: batches on the devices at a time.

    Yields:
        The global batches, sharded; the copy runs while the previous batch is being worked on.
    """
    waiting: collections.deque[dict[str, jax.Array]] = collections.deque()
    for local in batches:
        # Meant, whatever else a training loop may forbid.
        with jax.transfer_guard_host_to_device("allow"):
            arrays = {
                name: jax.make_array_from_process_local_data(sharding, array, (batch, *array.shape[1:]))
                for name, array in local.items()
            }
        waiting.append(arrays)
        if len(waiting) == ahead:
            yield waiting.popleft()
    yield from waiting
