"""A function of (parameters, batch) applied to any number of clips with one compilation."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from data_pipeline.format.host_batch import HostBatch
from hicmae_jax.training.sharding import batch_sharding, make_mesh, replicated, traced_on

Batch = HostBatch[np.ndarray]


class BatchedApply:
    """Runs a function over batches of clips and gathers what it gives for each clip, in order.

    A short batch is filled up by repeating its last clip, whose repetitions are dropped again: so there is
    one shape, and the function must give each clip a result that does not depend on its neighbours. Every
    process reads all clips; the devices share the work.

    Args:
        function: (parameters, batch) → tree of arrays with a leading dimension of the batch's length.
        rows: most clips in a batch; rounded up to a multiple of the devices.
        mesh: devices to spread a batch over, those that hold the parameters; None takes one device.
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
        # Replicated results, so that every process can read them all.
        self._function = jax.jit(traced_on(mesh, function), out_shardings=self._replicated)

    def __call__(self, params: Any, batches: Iterable[Batch]) -> Any:
        """Apply to every clip.

        Args:
            params: parameters, on the devices or NumPy arrays.
            batches: of clips, as `data_pipeline.reading.fixed_clips` gives them, the same in every process.

        Returns:
            The function's tree of NumPy arrays, over all clips.

        Raises:
            ValueError: no clip, or a batch of more than `rows`.
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

        def send(rows: np.ndarray) -> jax.Array:
            shape = (self._rows, *rows.shape[1:])
            return jax.make_array_from_callback(shape, self._sharding, lambda index: rows[filled][index])

        sent = jax.tree.map(send, batch)
        return jax.tree.map(lambda x: np.asarray(x)[:count], jax.device_get(self._function(params, sent)))
