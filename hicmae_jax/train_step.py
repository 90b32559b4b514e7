"""One update: preprocessing, loss, gradient, AdamW, all in one compiled function."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hicmae_jax.config import LossConfig
from hicmae_jax.model import HiCMAE
from hicmae_jax.objective import pretrain_loss
from hicmae_jax.preprocess import PreprocessConfig, preprocess_batch
from hicmae_jax.sharding import batch_sharding, replicated
from hicmae_jax.train_state import TrainState

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
LossAndTerms = Callable[[Any, Batch, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def pretrain_terms(model: HiCMAE, preprocess: PreprocessConfig, loss: LossConfig, seed: int) -> LossAndTerms:
    """The pre-training loss of a host batch, as a function of (parameters, batch, step).

    Args:
        model: the pre-training model.
        preprocess: augmentation and masks.
        loss: the objective's choices.
        seed: of augmentation and masks, the same throughout a run.

    Returns:
        A function giving the total and all terms.
    """

    def terms(params: Any, batch: Batch, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        # Made in here: a key from outside lies on a device, from where compiling the step would fetch it.
        inputs = preprocess_batch(batch, jax.random.key(seed), step, preprocess)
        return pretrain_loss(model, params, *inputs, loss)

    return terms


def make_train_step(
    terms: LossAndTerms,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    abstract: TrainState,
    mesh: jax.sharding.Mesh,
    accumulate: int = 1,
    group: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Compile-once update function; the state that goes in is donated.

    Args:
        terms: loss and terms of (parameters, batch, step).
        optimizer: its updates are added to the parameters.
        schedule: learning rate by step, for the log.
        abstract: shapes and shardings of the state.
        mesh: where everything lives.
        accumulate: micro-batches whose gradients are averaged before one update; exact where terms are
            means over rows or groups.
        group: consecutive rows that stay in one micro-batch, as a group of negatives must; `accumulate`
            times it divides the batch.

    Returns:
        (state, batch) → (next state, metrics): scalars on the devices, every process's the same.
    """

    def gradient(params: Any, batch: Batch, step: jax.Array) -> tuple[dict[str, jax.Array], Any]:
        (_, values), grads = jax.value_and_grad(terms, has_aux=True)(params, batch, step)
        return values, grads

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        if accumulate == 1:
            values, grads = gradient(state.params, batch, state.step)
        else:
            values, grads = accumulated(gradient, state.params, batch, state.step, accumulate, group, mesh)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(grads)
        # One number over all devices: every process makes the update, or none.
        finite = jnp.isfinite(values["total"]) & jnp.isfinite(norm)
        params, opt_state = made_or_kept(finite, (params, opt_state), (state.params, state.opt_state))
        levels = values.pop("contrastive_levels")
        metrics = {f"loss/{name}": value for name, value in values.items()}
        metrics |= {f"loss/contrastive_level_{i}": level for i, level in enumerate(levels)}
        metrics |= {
            "rate": schedule(state.step),
            "norm/gradient": norm,
            "norm/parameters": optax.tree.norm(state.params),
            "norm/update": jnp.where(finite, optax.tree.norm(updates), 0),
        }
        counts = {
            "replaced": state.replaced + batch["replaced"].sum(dtype=jnp.int32),
            "skipped": state.skipped + ~finite,
            "skipped_in_row": jnp.where(finite, 0, state.skipped_in_row + 1),
        }
        after = TrainState(step=state.step + 1, params=params, opt_state=opt_state, **counts)
        return after, metrics | counts

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(update, donate_argnums=0, out_shardings=(shardings, replicated(mesh)))


def made_or_kept(made: jax.Array, after: Any, before: Any) -> Any:
    """The state after an update if it is made, else that before; the learning rate's steps count either way.

    Args:
        made: bool[].
        after: tree of arrays, with the states of optax transformations.
        before: tree of the same structure.
    """

    def choose(new: Any, old: Any) -> Any:
        if isinstance(new, optax.ScaleByScheduleState):
            return new
        return jax.tree.map(lambda x, y: jnp.where(made, x, y), new, old)

    is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)  # noqa: E731
    return jax.tree.map(choose, after, before, is_leaf=is_schedule)


def accumulated(
    gradient: Callable[[Any, Batch, jax.Array], tuple[dict[str, jax.Array], Any]],
    params: Any,
    batch: Batch,
    step: jax.Array,
    count: int,
    group: int,
    mesh: jax.sharding.Mesh,
) -> tuple[dict[str, jax.Array], Any]:
    """Mean of values and gradients over `count` micro-batches, one after the other.

    Args:
        gradient: (parameters, batch, step) → (values, gradients).
        params: parameters.
        batch: arrays of as many rows.
        step: the step's number.
        count: how many micro-batches.
        group: consecutive rows that stay together; `count` times it divides the rows.
        mesh: each micro-batch is spread over all of it.
    """
    where = jax.sharding.NamedSharding(mesh, jax.P(None, *batch_sharding(mesh).spec))

    def cut(rows: jax.Array) -> jax.Array:
        # To each every `count`-th group: a device that holds as many has its share of every micro-batch, and
        # no clip moves. Runs of consecutive rows would make XLA gather the whole batch on every device.
        groups = rows.reshape(-1, count, group, *rows.shape[1:])
        parts = jnp.moveaxis(groups, 1, 0).reshape(count, -1, *rows.shape[1:])
        return jax.lax.with_sharding_constraint(parts, where)

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(params, part, step)), None

    parts = jax.tree.map(cut, dict(batch))
    first = jax.tree.map(lambda rows: rows[0], parts)
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(gradient, params, first, step)
    )
    total, _ = jax.lax.scan(add, zero, parts)
    return jax.tree.map(lambda x: x / count, total)
