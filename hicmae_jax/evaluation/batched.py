"""Apply a function of (parameters, batch) to any number of clips with one compilation."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from data_pipeline.format.host_batch import HostBatch
from hicmae_jax.training.sharding import batch_sharding, make_mesh, replicated, traced_on

Batch = HostBatch[np.ndarray]


class BatchedApply:
    """Applies a function to batches of clips, and concatenates the results in the order of the clips.

    All batches get one shape: a short batch is padded with copies of its last clip, and their results are
    dropped. So the result of a clip must not depend on the other clips of its batch. Every process reads all
    clips; the devices share the computation.

    Args:
        function: (parameters, batch) → tree of arrays whose first dimension is the batch.
        rows: largest number of clips in a batch; rounded up to a multiple of the number of devices.
        mesh: devices that share a batch and hold the parameters; None takes one device.
    """

    def __init__(
        self,
        function: Callable[[Any, HostBatch[jax.Array]], Any],
        rows: int,
        mesh: jax.sharding.Mesh | None = None,
    ) -> None:
        mesh = make_mesh(devices=jax.local_devices()[:1]) if mesh is None else mesh
        self._rows = -(-rows // mesh.size) * mesh.size
        self._sharding = batch_sharding(mesh)
        self._replicated = replicated(mesh)
        # Results are replicated, so that every process can read all of them.
        self._function = jax.jit(traced_on(mesh, function), out_shardings=self._replicated)

    def __call__(self, params: Any, batches: Iterable[Batch]) -> Any:
        """Apply the function to every clip.

        Args:
            params: parameters, on the devices or NumPy arrays.
            batches: batches of clips, from `data_pipeline.reading.fixed_clips`; the same in every process.

        Returns:
            Tree of NumPy arrays, as of the function, over all clips.

        Raises:
            ValueError: there is no clip, or a batch has more than `rows` clips.
        """
        if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params)):
            params = jax.device_put(params, self._replicated)
        parts = [self._batch(params, batch) for batch in batches]
        if not parts:
            raise ValueError("no clip to evaluate")
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def _batch(self, params: Any, batch: Batch) -> Any:
        count = len(batch["example"])
        if count > self._rows:
            raise ValueError(f"a batch of {count} clips is larger than the {self._rows} compiled for")
        filled = np.minimum(np.arange(self._rows), count - 1)

        def send(array: np.ndarray) -> jax.Array:
            padded = array[filled]
            return jax.make_array_from_callback(padded.shape, self._sharding, lambda index: padded[index])

        sent = jax.tree.map(send, batch)
        return jax.tree.map(lambda x: np.asarray(x)[:count], jax.device_get(self._function(params, sent)))


def watched_batches(
    batches: Iterable[Batch], reading: Callable[[], contextlib.AbstractContextManager[object]]
) -> Iterator[Batch]:
    """Pass batches on, and enter a context while each one is read.

    Args:
        batches: batches of clips.
        reading: makes the context, for a watchdog.
    """
    remaining = iter(batches)
    while True:
        with reading():
            batch = next(remaining, None)
        if batch is None:
            return
        yield batch
