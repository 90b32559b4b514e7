"""The contrastive loss of a batch that is spread over a mesh, at every level (paper equations 9 and 10).

`losses.info_nce_reference` is the definition. With the whole batch as negatives, it makes a B × B matrix for
each level, which is too large for a device at a batch of tens of thousands. Here each device computes its own
rows of that matrix, one chunk of columns after the other. The features of all devices are gathered once;
nothing else grows with the batch. Small features are gathered at once, larger ones a level at a time.

The gradient is written by hand. It needs one number for each row from the other devices, the logarithm of the
row's sum. Automatic differentiation would send gradients of all gathered features back.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.objective import losses

CHUNK = 2048
"""Largest number of columns of the matrix at a time."""
GATHER_ALL_LEVELS = 2**26
"""Features up to this many bytes are gathered for all levels at once: fewer messages, but more memory."""
KEEP_ALL_LEVELS = 2**28
"""Features up to this many bytes may be in memory for all levels, so that messages can run beside work."""


Sums = tuple[jax.Array, jax.Array]
"""For each row: the largest logit so far, and the sum of exp(logit − largest logit)."""


def info_nce(
    video: Sequence[jax.Array],
    audio: Sequence[jax.Array],
    temperature: float,
    group_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    chunk: int = CHUNK,
) -> jax.Array:
    """Symmetric InfoNCE of every level, as `losses.info_nce_reference` defines it.

    XLA partitions two cases by itself: groups of negatives (it sends nothing if each group lies on one
    device, and otherwise only features within a group), and a batch that the devices do not divide evenly.

    Args:
        video: [B, C] pooled video features of each level, sharded by rows over all axes of the mesh.
        audio: [B, C] pooled audio features of each level, likewise.
        temperature: τ.
        group_size: number of consecutive clips that are negatives of each other; None for the whole batch.
        mesh: devices that hold the features; None computes as `losses.info_nce_reference` does.
        chunk: largest number of columns at a time.

    Returns:
        float32[levels].

    Raises:
        ValueError: the batch is not a multiple of the group size.
    """
    if not video:
        return jnp.zeros((0,))
    batch = len(video[0])
    group = batch if group_size is None else group_size
    if mesh is None or batch % mesh.size or group != batch:
        pairs = zip(video, audio, strict=True)
        return jnp.stack([losses.info_nce_reference(*pair, temperature, group) for pair in pairs])
    units = losses.unit(jnp.stack([jnp.stack(video), jnp.stack(audio)]))
    return _sharded_loss(units, temperature, mesh, chunk)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _sharded_loss(units: jax.Array, temperature: float, mesh: jax.sharding.Mesh, chunk: int) -> jax.Array:
    """Loss float32[levels] of features of length 1, float32[2, levels, B, C], video and audio."""
    return _over_mesh(units, temperature, mesh, chunk, with_gradient=False)[0]


def _forward(
    units: jax.Array, temperature: float, mesh: jax.sharding.Mesh, chunk: int
) -> tuple[jax.Array, jax.Array]:
    # The gradient is made in the forward pass: keeping the gathered features until the backward pass would
    # take memory while the decoders run.
    losses, gradient = _over_mesh(units, temperature, mesh, chunk, with_gradient=True)
    return losses, gradient


def _backward(
    temperature: float,
    mesh: jax.sharding.Mesh,
    chunk: int,
    gradient: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array]:
    return (gradient * weights[:, None, None],)


_sharded_loss.defvjp(_forward, _backward)


def _over_mesh(
    units: jax.Array,
    temperature: float,
    mesh: jax.sharding.Mesh,
    chunk: int,
    with_gradient: bool,
) -> tuple[jax.Array, ...]:
    """Losses float32[levels], and with_gradient their gradient float32[2, levels, B, C] in `units`."""
    axes = mesh.axis_names
    of_rows = jax.P(None, None, axes)
    of_levels = functools.partial(
        _per_device, axes=axes, temperature=temperature, chunk=chunk, with_gradient=with_gradient
    )

    in_turn = units.nbytes > KEEP_ALL_LEVELS

    def one_by_one(units: jax.Array) -> tuple[jax.Array, ...]:
        # Not a loop of the compiler: a message in a loop cannot run beside the work around the loop.
        found: list[tuple[jax.Array, ...]] = []
        for level in range(units.shape[1]):
            found.append(of_levels(units[:, level : level + 1]))
            if in_turn:  # a level is gathered once the level before it is not needed any more
                last = found[-1][-1] if with_gradient else jax.lax.pcast(found[-1][0], axes, to="varying")
                units, _ = jax.lax.optimization_barrier((units, last))
        values, *gradient = zip(*found, strict=True)
        return (jnp.concatenate(values), *(jnp.concatenate(of_level, axis=1) for of_level in gradient))

    function = of_levels if units.nbytes <= GATHER_ALL_LEVELS else one_by_one
    outputs = (jax.P(), of_rows) if with_gradient else (jax.P(),)
    return jax.shard_map(function, mesh=mesh, in_specs=of_rows, out_specs=outputs)(units)


def _chunks(batch: int, chunk: int) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
    """Width of the chunks of columns; for each, its first column int32 and its first new column int32.

    All chunks have one width. The last one begins early enough to end with the batch, and its first columns
    belong to the chunk before.
    """
    count = -(-batch // chunk)
    width = -(-batch // count)
    new = np.arange(count, dtype=np.int32) * width
    return width, (np.minimum(new, batch - width), new)


def _per_device(
    units: jax.Array,
    axes: tuple[str, ...],
    temperature: float,
    chunk: int,
    with_gradient: bool,
) -> tuple[jax.Array, ...]:
    """Compute one device's share of the loss.

    Args:
        units: float32[2, levels, rows, C], the device's rows of both modalities.
        axes: of the mesh.
        temperature: τ.
        chunk: largest number of columns at a time.
        with_gradient: whether to return the gradient too.

    Returns:
        float32[levels], the same on every device, and with_gradient the gradient in the device's `units`.
    """
    rows = units.shape[2]
    batch = rows * jax.lax.axis_size(axes)
    everyone = jax.lax.all_gather(units, axes, axis=2, tiled=True)
    partners = units[::-1]  # the columns are of the other modality

    width, chunks = _chunks(batch, chunk)

    def columns(array: jax.Array, begin: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(array, begin, width, axis=2)[::-1]

    def logits(begin: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
        others = columns(everyone, begin)
        similarity = jnp.einsum("mlic,mljc->mlij", units, others, precision="highest")
        return jnp.where(begin + jnp.arange(width) >= new, similarity / temperature, -jnp.inf), others

    def add(so_far: Sums, which: tuple[Any, Any]) -> tuple[Sums, None]:
        largest, total = so_far
        values, _ = logits(*which)
        larger = jnp.maximum(largest, values.max(-1))
        total = total * jnp.exp(largest - larger) + jnp.exp(values - larger[..., None]).sum(-1)
        return (larger, total), None

    nothing = (jnp.full(units.shape[:-1], -jnp.inf), jnp.zeros(units.shape[:-1]))
    (largest, total), _ = jax.lax.scan(add, jax.lax.pcast(nothing, axes, to="varying"), chunks)
    normaliser = largest + jnp.log(total)
    matched = (units * partners).sum(-1) / temperature
    loss = jax.lax.psum((normaliser - matched).sum((0, 2)), axes) / (2 * batch)
    if not with_gradient:
        return (loss,)

    normalisers = jax.lax.all_gather(normaliser, axes, axis=2, tiled=True)

    def pull(so_far: jax.Array, which: tuple[Any, Any]) -> tuple[jax.Array, None]:
        values, others = logits(*which)
        # A pair counts in the softmax of its row and in that of its column.
        shares = jnp.exp(values - normaliser[..., None])
        shares += jnp.exp(values - columns(normalisers, which[0])[..., None, :])
        return so_far + jnp.einsum("mlij,mljc->mlic", shares, others, precision="highest"), None

    pulled, _ = jax.lax.scan(pull, -2 * partners, chunks)
    return loss, pulled / (2 * batch * temperature)
