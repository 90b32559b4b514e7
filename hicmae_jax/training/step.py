"""One update: gradient, optimiser and counts in one compiled function, for any loss."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hicmae_jax.training import norms
from hicmae_jax.training.accumulation import Batch, Gradient
from hicmae_jax.training.compiler_options import Options
from hicmae_jax.training.sharding import replicated, traced_on
from hicmae_jax.training.state import TrainState

Metrics = Mapping[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
"""(state, batch) → (next state, metrics on the devices)."""


def make_train_step(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    abstract: TrainState,
    mesh: jax.sharding.Mesh,
    options: Options | None = None,
) -> TrainStep:
    """The update function, compiled at its first call.

    The caller's state is donated. An update whose loss or gradient is not finite is skipped.

    Args:
        gradient: from `accumulation`: (parameters, batch, step) → scalar terms of the loss, with their sum
            `total`, and the gradient. The batch has int32[B] `replaced`.
        optimizer: its updates are added to the parameters.
        schedule: learning rate by step, for the log.
        abstract: shapes and shardings of the state.
        mesh: the devices of the state and of the batches.
        options: of the compiler, from `compiler_options.of`; none or None leaves all to it.

    Returns:
        (state, batch) → (next state, metrics). Metrics are scalars, the same on every process: each term as
        `loss/<term>`, `rate`, `norm/…`, and the state's counts.
    """
    measure = norms.for_devices(mesh)

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        values, grads = gradient(state.params, batch, state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm, norm_of_params = norms.before_update(measure, grads, state.params)
        # The same number on all devices, so every process makes the update or none does.
        finite = jnp.isfinite(values["total"]) & jnp.isfinite(norm)
        params, opt_state = select_update(finite, (params, opt_state), (state.params, state.opt_state))
        metrics = {f"loss/{name}": value for name, value in values.items()}
        metrics |= {
            "rate": schedule(state.step),
            "norm/gradient": norm,
            "norm/parameters": measure(state.params) if norm_of_params is None else norm_of_params,
            "norm/update": jnp.where(finite, measure(updates), 0),
        }
        counts = {
            "replaced": state.replaced + batch["replaced"].sum(dtype=jnp.int32),
            "skipped": state.skipped + ~finite,
            "skipped_in_row": jnp.where(finite, 0, state.skipped_in_row + 1),
        }
        after = TrainState(step=state.step + 1, params=params, opt_state=opt_state, **counts)
        return after, metrics | counts

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(
        traced_on(mesh, update),
        donate_argnums=0,
        out_shardings=(shardings, replicated(mesh)),
        compiler_options=dict(options) if options else None,
    )


def select_update(finite: jax.Array, after: Any, before: Any) -> Any:
    """Choose the arrays after an update, or those before it if the update is skipped.

    The step count of the learning rate goes on either way.

    Args:
        finite: bool[], whether to make the update.
        after: tree of arrays, which may hold states of optax transformations.
        before: tree of the same structure.
    """

    def choose(new: Any, old: Any) -> Any:
        if isinstance(new, optax.ScaleByScheduleState):
            return new
        return jax.tree.map(lambda x, y: jnp.where(finite, x, y), new, old)

    is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)  # noqa: E731
    return jax.tree.map(choose, after, before, is_leaf=is_schedule)
