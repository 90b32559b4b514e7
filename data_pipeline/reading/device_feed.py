"""Turns the batches that a host reads into global arrays on the devices.

The sharding decides which rows of the global batch a host reads. So the global array of a step is the same on
every mesh: row `r` is the clip at position `step * batch + r` of the order.
"""

import collections
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from data_pipeline.format.host_batch import HostBatch


def sharding_rows(sharding: jax.sharding.Sharding, batch: int) -> list[int]:
    """Returns the rows of the global batch that this process's devices hold, ascending.

    The process must read these rows for `to_device`. They need not be consecutive: on a mesh that follows a
    torus, a process's devices may hold rows from several places of the batch.

    Args:
        sharding: of an array's leading dimension.
        batch: number of rows of the global batch.

    Raises:
        ValueError: the sharding does not divide the batch.
    """
    try:
        slices = sharding.addressable_devices_indices_map((batch,)).values()
    except ValueError as error:
        raise ValueError(f"a batch of {batch} clips does not divide over the mesh: {error}") from error
    return sorted({row for index in slices if index for row in range(batch)[index[0]]})


def to_device(
    batches: Iterable[HostBatch[np.ndarray]], sharding: jax.sharding.Sharding, batch: int, ahead: int = 2
) -> Iterator[HostBatch[jax.Array]]:
    """Copies batches to the devices, `ahead` of them before they are needed (2: double buffering).

    Args:
        batches: the rows of each batch that `sharding_rows` names for this process.
        sharding: of the leading dimension of every array.
        batch: number of rows of the global batch.
        ahead: number of batches copied before they are needed.

    Yields:
        The global batches, sharded. A copy runs while the devices work on the previous batch.
    """

    def global_array(local: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, local, (batch, *local.shape[1:]))

    waiting: collections.deque[HostBatch[jax.Array]] = collections.deque()
    for local in batches:
        # This copy is intended, also where the training loop forbids implicit ones.
        with jax.transfer_guard_host_to_device("allow"):
            waiting.append(jax.tree.map(global_array, local))
        if len(waiting) == ahead:
            yield waiting.popleft()
    yield from waiting
