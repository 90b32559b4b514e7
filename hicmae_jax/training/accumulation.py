"""A step's gradient: of the whole batch at once, or of micro-batches one after the other.

Where clips are contrasted with the whole batch, the mean over micro-batches is not the batch's gradient, for
each would see its own negatives alone. Those need two passes: the first makes the features of all clips, of
which the contrastive loss and its gradient in each feature are taken at once; the second makes them again,
with the gradient in the parameters that leads to them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hicmae_jax.training.sharding import batch_sharding

Batch = Mapping[str, jax.Array]
Values = dict[str, jax.Array]
LossAndTerms = Callable[[Any, Batch, jax.Array], tuple[jax.Array, Values]]
Gradient = Callable[[Any, Batch, jax.Array], tuple[Values, Any]]
"""(parameters, batch, step) → (the loss's terms, gradient in the parameters)."""


class Apart(NamedTuple):
    """A loss that is the sum of a mean over clips and a contrast between them.

    Attributes:
        features: (parameters, batch, step) → tree of float32[B, …], what is contrasted.
        mean: (parameters, batch, step) → the mean over clips, its terms, and the features as well.
        contrast: features of the whole batch → the rest of the loss and its terms.
    """

    features: Callable[[Any, Batch, jax.Array], Any]
    mean: Callable[[Any, Batch, jax.Array], tuple[jax.Array, Values, Any]]
    contrast: Callable[[Any], tuple[jax.Array, Values]]


def at_once(terms: LossAndTerms) -> Gradient:
    """The gradient of a whole batch.

    Args:
        terms: (parameters, batch, step) → the loss and its terms.
    """

    def gradient(params: Any, batch: Batch, step: jax.Array) -> tuple[Values, Any]:
        (_, values), grads = jax.value_and_grad(terms, has_aux=True)(params, batch, step)
        return values, grads

    return gradient


def averaged(terms: LossAndTerms, count: int, group: int, mesh: jax.sharding.Mesh) -> Gradient:
    """The mean over micro-batches: that of the whole batch where terms are means over rows or groups.

    Args:
        terms: (parameters, batch, step) → the loss and its terms.
        count: how many micro-batches.
        group: consecutive rows that stay in one micro-batch, as a group of negatives must; `count` times it
            divides the batch.
        mesh: each micro-batch is spread over all of it.
    """

    def gradient(params: Any, batch: Batch, step: jax.Array) -> tuple[Values, Any]:
        parts = cut(dict(batch), count, group, mesh)
        return _mean(lambda part: at_once(terms)(params, part, step), parts, count)

    return gradient


def in_two_passes(apart: Apart, count: int, mesh: jax.sharding.Mesh) -> Gradient:
    """The gradient of the whole batch, negatives and all, from micro-batches.

    The features of all clips are held, and no more of a micro-batch than without contrast. Both passes must
    work on the same inputs, as they do if masks and augmentation are drawn from (seed, step, example).

    Args:
        apart: the loss in its two parts.
        count: how many micro-batches; it divides the batch.
        mesh: each micro-batch is spread over all of it.
    """

    def gradient(params: Any, batch: Batch, step: jax.Array) -> tuple[Values, Any]:
        parts = cut(dict(batch), count, 1, mesh)
        _, features = jax.lax.scan(lambda _, part: (None, apart.features(params, part, step)), None, parts)
        features = joined(features, mesh)
        (contrast, of_contrast), pulls = jax.value_and_grad(apart.contrast, has_aux=True)(features)

        def second(part: Batch, pull: Any) -> tuple[Values, Any]:
            def loss(params: Any) -> tuple[jax.Array, Values]:
                mean, values, features = apart.mean(params, part, step)
                # What the contrast would add to the gradient, had all clips been in this micro-batch. The
                # factor is for the mean over micro-batches that is taken of it.
                products = jax.tree.map(jnp.vdot, features, pull)
                return mean + count * sum(jax.tree.leaves(products)), values | {"total": mean}

            (_, values), grads = jax.value_and_grad(loss, has_aux=True)(params)
            return values, grads

        both = (parts, cut(pulls, count, 1, mesh))
        values, grads = _mean(lambda part_and_pull: second(*part_and_pull), both, count)
        return values | of_contrast | {"total": values["total"] + contrast}, grads

    return gradient


def cut(arrays: Any, count: int, group: int, mesh: jax.sharding.Mesh) -> Any:
    """Micro-batches of a batch.

    To each goes every `count`-th group: a device that holds as many has its share of every micro-batch, and
    no clip moves. Runs of consecutive rows would make XLA gather the whole batch on every device.

    Args:
        arrays: tree of [B, …], rows over all devices.
        count: how many.
        group: consecutive rows that stay together; `count` times it divides B.
        mesh: of the devices.

    Returns:
        The same tree of [count, B / count, …], rows over all devices.
    """
    where = jax.sharding.NamedSharding(mesh, jax.P(None, *batch_sharding(mesh).spec))

    def parts(rows: jax.Array) -> jax.Array:
        groups = rows.reshape(-1, count, group, *rows.shape[1:])
        parts = jnp.moveaxis(groups, 1, 0).reshape(count, -1, *rows.shape[1:])
        return jax.lax.with_sharding_constraint(parts, where)

    return jax.tree.map(parts, arrays)


def joined(parts: Any, mesh: jax.sharding.Mesh) -> Any:
    """What `cut` makes of groups of one row, put together again: a tree of [B, …] in the batch's order."""

    def rows(parts: jax.Array) -> jax.Array:
        rows = jnp.moveaxis(parts, 0, 1).reshape(-1, *parts.shape[2:])
        return jax.lax.with_sharding_constraint(rows, batch_sharding(mesh))

    return jax.tree.map(rows, parts)


def _mean(function: Callable[[Any], Any], parts: Any, count: int) -> Any:
    """Mean of what a function gives for each of `count` parts, one after the other."""

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    first = jax.tree.map(lambda rows: rows[0], parts)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, first))
    total, _ = jax.lax.scan(add, zero, parts)
    return jax.tree.map(lambda x: x / count, total)
