"""One update: preprocessing, loss, gradient, AdamW, all in one compiled function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hicmae_jax.model.config import LossConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.objective.pretrain import Levels, pretrain_loss
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch
from hicmae_jax.training.accumulation import Apart, Batch, Gradient, LossAndTerms
from hicmae_jax.training.sharding import replicated, traced_on
from hicmae_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def pretrain_terms(
    model: HiCMAE, preprocess: PreprocessConfig, loss: LossConfig, seed: int, mesh: jax.sharding.Mesh
) -> LossAndTerms:
    """The pre-training loss of a host batch, as a function of (parameters, batch, step).

    Args:
        model: the pre-training model.
        preprocess: augmentation and masks.
        loss: the objective's choices.
        seed: of augmentation and masks, the same throughout a run.
        mesh: where batches lie.

    Returns:
        A function giving the total and all terms.
    """

    def terms(params: Any, batch: Batch, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        # Made in here: a key from outside lies on a device, from where compiling the step would fetch it.
        inputs = preprocess_batch(batch, jax.random.key(seed), step, preprocess)
        return pretrain_loss(model, params, *inputs, loss, mesh)

    return terms


def pretrain_apart(
    model: HiCMAE, preprocess: PreprocessConfig, loss: LossConfig, seed: int, mesh: jax.sharding.Mesh
) -> Apart:
    """The same loss in two parts, for micro-batches that have the negatives of the whole batch.

    Arguments as for `pretrain_terms`.
    """

    def features(params: Any, batch: Batch, step: jax.Array) -> Levels:
        inputs = preprocess_batch(batch, jax.random.key(seed), step, preprocess)
        return objective.levels(model, params, *inputs)

    def mean(params: Any, batch: Batch, step: jax.Array) -> tuple[jax.Array, Metrics, Levels]:
        inputs = preprocess_batch(batch, jax.random.key(seed), step, preprocess)
        return objective.without_contrast(model, params, *inputs, loss)

    def contrast(features: Levels) -> tuple[jax.Array, Metrics]:
        values = objective.contrast(features, loss, mesh)
        return loss.contrastive_weight * values["contrastive"], values

    return Apart(features, mean, contrast)


def make_train_step(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    abstract: TrainState,
    mesh: jax.sharding.Mesh,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Compile-once update function; the state that goes in is donated.

    Args:
        gradient: terms and gradient of (parameters, batch, step), from `accumulation`.
        optimizer: its updates are added to the parameters.
        schedule: learning rate by step, for the log.
        abstract: shapes and shardings of the state.
        mesh: where everything lives.

    Returns:
        (state, batch) → (next state, metrics): scalars on the devices, every process's the same.
    """

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        values, grads = gradient(state.params, batch, state.step)
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
    return jax.jit(traced_on(mesh, update), donate_argnums=0, out_shardings=(shardings, replicated(mesh)))


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
