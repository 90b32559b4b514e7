"""Gradient of a batch, computed at once or from micro-batches one after the other.

If every clip is contrasted with the whole batch, the mean over micro-batches is not the gradient of the
batch, because each micro-batch would see only its own negatives. Such a loss needs two passes. The first
computes the features of all clips, and from them the contrastive loss and its gradient in each feature. The
second computes the features again and carries that gradient back to the parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hicmae_jax.training.sharding import batch_sharding

Batch = Any
"""Tree of arrays with one row for each clip, such as `HostBatch`."""
Values = dict[str, jax.Array]
LossAndTerms = Callable[[Any, Batch, jax.Array], tuple[jax.Array, Values]]
"""(parameters, batch, step) → (loss, its terms)."""
Gradient = Callable[[Any, Batch, jax.Array], tuple[Values, Any]]
"""(parameters, batch, step) → (terms of the loss, gradient in the parameters)."""


class SplitLoss(NamedTuple):
    """A loss that is the sum of a mean over clips and a contrast between clips.

    Attributes:
        features: (parameters, batch, step) → tree of float32[B, …], which `contrast` compares.
        mean: (parameters, batch, step) → the mean over clips, its terms, and the same features.
        contrast: features of the whole batch → the rest of the loss and its terms.
    """

    features: Callable[[Any, Batch, jax.Array], Any]
    mean: Callable[[Any, Batch, jax.Array], tuple[jax.Array, Values, Any]]
    contrast: Callable[[Any], tuple[jax.Array, Values]]


def whole_batch(terms: LossAndTerms) -> Gradient:
    """The gradient of a batch, computed at once.

    Args:
        terms: (parameters, batch, step) → the loss and its terms.
    """

    def gradient(params: Any, batch: Batch, step: jax.Array) -> tuple[Values, Any]:
        (_, values), grads = jax.value_and_grad(terms, has_aux=True)(params, batch, step)
        return values, grads

    return gradient


def mean_of_micro_batches(terms: LossAndTerms, count: int, group: int, mesh: jax.sharding.Mesh) -> Gradient:
    """The mean gradient of micro-batches.

    It is the gradient of the whole batch if all terms are means over rows or over groups of rows.

    Args:
        terms: (parameters, batch, step) → the loss and its terms.
        count: number of micro-batches.
        group: consecutive rows that stay in one micro-batch, such as a group of negatives; `count` × `group`
            divides the batch.
        mesh: each micro-batch is spread over all its devices.
    """

    def gradient(params: Any, batch: Batch, step: jax.Array) -> tuple[Values, Any]:
        parts = cut(dict(batch), count, group, mesh)
        return _mean(lambda part: whole_batch(terms)(params, part, step), parts, count)

    return gradient


def two_pass(loss: SplitLoss, count: int, mesh: jax.sharding.Mesh) -> Gradient:
    """The gradient of the whole batch, with the negatives of the whole batch, from micro-batches.

    Memory holds the features of all clips, and otherwise no more than one micro-batch needs without the
    contrast. Both passes must compute the same inputs, which they do if masks and augmentation are drawn from
    (seed, step, example).

    Args:
        loss: the loss in its two parts.
        count: number of micro-batches; it divides the batch.
        mesh: each micro-batch is spread over all its devices.
    """

    def gradient(params: Any, batch: Batch, step: jax.Array) -> tuple[Values, Any]:
        parts = cut(dict(batch), count, 1, mesh)
        _, features = jax.lax.scan(lambda _, part: (None, loss.features(params, part, step)), None, parts)
        features = joined(features, mesh)
        (contrast, contrast_terms), pulls = jax.value_and_grad(loss.contrast, has_aux=True)(features)

        def second_pass(part: Batch, pull: Any) -> tuple[Values, Any]:
            def surrogate(params: Any) -> tuple[jax.Array, Values]:
                mean, values, features = loss.mean(params, part, step)
                # The products have the gradient that the contrast of the whole batch has in these features.
                # `count` undoes the division when the mean over micro-batches is taken.
                products = jax.tree.map(jnp.vdot, features, pull)
                return mean + count * sum(jax.tree.leaves(products)), values | {"total": mean}

            (_, values), grads = jax.value_and_grad(surrogate, has_aux=True)(params)
            return values, grads

        both = (parts, cut(pulls, count, 1, mesh))
        values, grads = _mean(lambda part_and_pull: second_pass(*part_and_pull), both, count)
        return values | contrast_terms | {"total": values["total"] + contrast}, grads

    return gradient


def cut(arrays: Any, count: int, group: int, mesh: jax.sharding.Mesh) -> Any:
    """Cut a batch into micro-batches.

    Each micro-batch takes every `count`-th group. If a device holds that many groups, it has its share of
    every micro-batch and no clip moves between devices. (With runs of consecutive rows XLA would gather the
    whole batch on every device.)

    Args:
        arrays: tree of [B, …], rows spread over all devices.
        count: number of micro-batches.
        group: consecutive rows that stay in one micro-batch; `count` × `group` divides B.
        mesh: the devices.

    Returns:
        The same tree of [count, B / count, …], rows of each micro-batch spread over all devices.
    """
    where = jax.sharding.NamedSharding(mesh, jax.P(None, *batch_sharding(mesh).spec))

    def parts(rows: jax.Array) -> jax.Array:
        groups = rows.reshape(-1, count, group, *rows.shape[1:])
        parts = jnp.moveaxis(groups, 1, 0).reshape(count, -1, *rows.shape[1:])
        return jax.lax.with_sharding_constraint(parts, where)

    return jax.tree.map(parts, arrays)


def joined(parts: Any, mesh: jax.sharding.Mesh) -> Any:
    """Undo `cut` of groups of one row.

    Args:
        parts: tree of [count, B / count, …].
        mesh: the devices.

    Returns:
        Tree of [B, …] in the order of the batch.
    """

    def rows(parts: jax.Array) -> jax.Array:
        rows = jnp.moveaxis(parts, 0, 1).reshape(-1, *parts.shape[2:])
        return jax.lax.with_sharding_constraint(rows, batch_sharding(mesh))

    return jax.tree.map(rows, parts)


def _mean(function: Callable[[Any], Any], parts: Any, count: int) -> Any:
    """Mean of the function's values for `count` parts, computed one after the other."""

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    first = jax.tree.map(lambda rows: rows[0], parts)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, first))
    total, _ = jax.lax.scan(add, zero, parts)
    return jax.tree.map(lambda x: x / count, total)
