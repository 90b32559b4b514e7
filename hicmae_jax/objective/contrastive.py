"""The contrastive loss of a batch that is spread over a mesh, at every level (paper equations 9 and 10).

`losses.info_nce` says what is computed. Of a whole batch's negatives it makes a B × B matrix for each level,
which at a batch of tens of thousands no device has room for, and how it is split is left to XLA. Here every
device has its own rows of it, in chunks of columns one after the other: the features of all devices are
gathered once, and nothing else that grows with the batch ever exists. All levels are gathered together while
they are small, else one after the other.

The gradient is written by hand. It needs no more of the other devices than a number a row (the logarithm of
that row's sum), where automatic differentiation would send a gradient in all gathered features back.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.objective import losses

CHUNK = 2048
"""Most columns of the matrix at a time."""
TOGETHER = 2**26
"""Most bytes of gathered features for all levels to be gathered together: fewer messages, but more memory."""


def info_nce(
    video: Sequence[jax.Array],
    audio: Sequence[jax.Array],
    temperature: float,
    group_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    chunk: int = CHUNK,
) -> jax.Array:
    """Symmetric InfoNCE of every level, as `losses.info_nce` defines it.

    Groups of negatives are left to XLA, which sends nothing if each lies on one device, else features within
    groups alone; so is a batch that the devices do not divide.

    Args:
        video: [B, C] pooled video features of each level, rows over all axes of the mesh.
        audio: [B, C] pooled audio features of each level, likewise.
        temperature: τ.
        group_size: negatives come from consecutive groups of this many clips; None takes the whole batch.
        mesh: where the features lie; None computes as `losses.info_nce` does.
        chunk: most columns at a time.

    Returns:
        float32[levels].

    Raises:
        ValueError: if the batch is not a multiple of the group size.
    """
    if not video:
        return jnp.zeros((0,))
    batch = len(video[0])
    group = batch if group_size is None else group_size
    if mesh is None or batch % mesh.size or group != batch:
        pairs = zip(video, audio, strict=True)
        return jnp.stack([losses.info_nce(*pair, temperature, group) for pair in pairs])
    units = losses.unit(jnp.stack([jnp.stack(video), jnp.stack(audio)]))
    return _spread(units, temperature, mesh, chunk)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _spread(units: jax.Array, temperature: float, mesh: jax.sharding.Mesh, chunk: int) -> jax.Array:
    """The loss float32[levels] of unit features float32[2, levels, B, C], video and audio."""
    return _on_mesh(units, temperature, mesh, chunk, with_gradient=False)[0]


def _forward(
    units: jax.Array, temperature: float, mesh: jax.sharding.Mesh, chunk: int
) -> tuple[jax.Array, jax.Array]:
    # Made at once: kept until the backward pass, the gathered features would lie in the decoders' way.
    return _on_mesh(units, temperature, mesh, chunk, with_gradient=True)


def _backward(
    temperature: float,
    mesh: jax.sharding.Mesh,
    chunk: int,
    gradient: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array]:
    return (gradient * weights[:, None, None],)


_spread.defvjp(_forward, _backward)


def _on_mesh(
    units: jax.Array,
    temperature: float,
    mesh: jax.sharding.Mesh,
    chunk: int,
    with_gradient: bool,
) -> tuple[jax.Array, ...]:
    """(float32[levels],), the losses, and if asked for their gradient float32[2, levels, B, C] in `units`."""
    axes = mesh.axis_names
    of_rows = jax.P(None, None, axes)
    of_levels = functools.partial(
        _on_device, axes=axes, temperature=temperature, chunk=chunk, with_gradient=with_gradient
    )

    def one_by_one(units: jax.Array) -> tuple[jax.Array, ...]:
        values, *gradient = jax.lax.map(lambda level: of_levels(level[:, None]), jnp.moveaxis(units, 1, 0))
        return (values[:, 0], *(jnp.moveaxis(of_level[:, :, 0], 0, 1) for of_level in gradient))

    function = of_levels if units.nbytes <= TOGETHER else one_by_one
    outputs = (jax.P(), of_rows) if with_gradient else (jax.P(),)
    return jax.shard_map(function, mesh=mesh, in_specs=of_rows, out_specs=outputs)(units)


def _on_device(
    units: jax.Array,
    axes: tuple[str, ...],
    temperature: float,
    chunk: int,
    with_gradient: bool,
) -> tuple[jax.Array, ...]:
    """What one device does.

    Args:
        units: float32[2, levels, rows, C], its rows of both modalities.
        axes: of the mesh.
        temperature: τ.
        chunk: most columns at a time.
        with_gradient: whether to give the gradient too.

    Returns:
        float32[levels], every device's the same, and if asked for the gradient in its `units`.
    """
    rows = units.shape[2]
    batch = rows * jax.lax.axis_size(axes)
    everyone = jax.lax.all_gather(units, axes, axis=2, tiled=True)
    partners = units[::-1]  # a row's columns are of the other modality

    # Chunks of one size: the last begins early enough, and leaves out what was in the one before.
    count = -(-batch // chunk)
    width = -(-batch // count)
    due = np.arange(count, dtype=np.int32) * width
    chunks = (np.minimum(due, batch - width), due)

    def columns(array: jax.Array, begin: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(array, begin, width, axis=2)[::-1]

    def logits(begin: jax.Array, due: jax.Array) -> tuple[jax.Array, jax.Array]:
        others = columns(everyone, begin)
        similarity = jnp.einsum("mlic,mljc->mlij", units, others, precision="highest")
        return jnp.where(begin + jnp.arange(width) >= due, similarity / temperature, -jnp.inf), others

    def add(so_far: tuple[jax.Array, jax.Array], which: tuple[jax.Array, jax.Array]) -> tuple[object, None]:
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

    def pull(so_far: jax.Array, which: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        values, others = logits(*which)
        # A pair counts in the row's softmax and, the other way round, in the column's.
        shares = jnp.exp(values - normaliser[..., None])
        shares += jnp.exp(values - columns(normalisers, which[0])[..., None, :])
        return so_far + jnp.einsum("mlij,mljc->mlic", shares, others, precision="highest"), None

    pulled, _ = jax.lax.scan(pull, -2 * partners, chunks)
    return loss, pulled / (2 * batch * temperature)
