"""One update is the same on every mesh and in micro-batches, is compiled once, and works in place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hicmae_jax.model.initialise import initialiser, parameter_key
from hicmae_jax.runs import build
from hicmae_jax.training import sharding
from hicmae_jax.training import state as train_state
from tests.support import shrunk_recipe, tiny_model
from tests.support.trees import assert_trees_close
from tests.support.two_matrices import (
    OPTIMIZER,
    STEPS,
    assert_same_training,
    clips,
    host,
    mesh_of,
    rows,
    small,
    terms,
    trained,
)


def assert_where_they_should_be(state, abstract):
    """Check that every array, of parameters and moments, has the requested sharding."""

    def check(path, leaf, wanted):
        assert leaf.sharding == wanted.sharding, jax.tree_util.keystr(path)
        expected = wanted.sharding.shard_shape(wanted.shape)
        assert {shard.data.shape for shard in leaf.addressable_shards} == {expected}
        assert len(leaf.addressable_shards) == wanted.sharding.mesh.size

    jax.tree_util.tree_map_with_path(check, state, abstract)


# --- The step itself, with a model of two matrices ----------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    """Training on one device without micro-batches."""
    return trained(mesh_of(1, 1))


@pytest.mark.parametrize("mesh", [(8, 1), (8, 2), (8, 8), (2, 2)], ids=str)
def test_training_does_not_depend_on_the_mesh(reference, mesh):
    assert_same_training(trained(mesh_of(*mesh)), reference)


def test_a_step_applies_the_optimiser_to_the_gradient_of_the_loss():
    mesh = mesh_of(8, 2)
    state, _, step, batch = small(mesh)
    before = host(state)
    after, metrics = step(state, batch(0))

    params = jax.tree.map(jnp.asarray, before.params)
    (_, values), gradient = jax.value_and_grad(terms, has_aux=True)(params, rows(0), 0, 4)
    updates, _ = OPTIMIZER.update(gradient, OPTIMIZER.init(params), params)
    assert_trees_close(host(after.params), host(optax.apply_updates(params, updates)), 1e-5)

    def norm(tree):
        return np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(tree)))

    expected = {f"loss/{name}": values[name] for name in ("total", "video", "audio", "contrastive")}
    expected |= {
        "loss/contrastive_level_0": values["contrastive"],
        "rate": 0.1,
        "norm/gradient": norm(gradient),
        "norm/parameters": norm(before.params),
        "norm/update": norm(updates),
        "replaced": 3,
        "skipped": 0,
        "skipped_in_row": 0,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_steps_and_replaced_clips_are_counted():
    state, logged = trained(mesh_of(8, 1))
    assert (state.step, state.replaced) == (STEPS, 3 * STEPS)
    assert [int(metrics["replaced"]) for metrics in logged] == [3, 6, 9, 12]
    np.testing.assert_allclose([metrics["rate"] for metrics in logged], [0.1, 0.11, 0.12, 0.13], rtol=1e-6)


def without_a_gradient(params, batch, step, group):
    """The same terms and total, but at step 1 the total has no finite derivative."""
    total, values = terms(params, batch, step, group)
    nothing = jnp.sum(params["video"]["kernel"]) * 0
    return total + jnp.sqrt(nothing + (step != 1)) - (step != 1), values


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("bad", ["one clip", "gradient"])
def test_an_update_that_is_not_finite_is_skipped(accumulate, bad):
    """Every device skips it, although the clip lies on one device."""
    mesh = mesh_of(8, 2)
    loss = terms if bad == "one clip" else without_a_gradient
    state, _, step, _ = small(mesh, accumulate=accumulate, of=loss)
    states, logged = [], []
    for number in range(3):
        given = rows(number)
        if bad == "one clip" and number == 1:
            given["audio"][13, 5] = np.nan
        state, metrics = step(state, jax.device_put(given, sharding.batch_sharding(mesh)))
        states.append(host(state))
        logged.append(host(metrics))
    first, skipped, last = states
    jax.tree.map(np.testing.assert_array_equal, skipped.params, first.params)
    jax.tree.map(np.testing.assert_array_equal, skipped.opt_state[0], first.opt_state[0])
    assert np.isfinite(logged[1]["loss/total"]) == (bad == "gradient")
    assert not np.isfinite(logged[1]["norm/gradient"])
    assert logged[1]["norm/update"] == 0
    assert [(int(state.skipped), int(state.skipped_in_row)) for state in states] == [(0, 0), (1, 1), (1, 0)]
    # Step and rate advance, and the next update is the same as without the batch in between.
    assert [int(state.step) for state in states] == [1, 2, 3]
    np.testing.assert_allclose([metrics["rate"] for metrics in logged], [0.1, 0.11, 0.12], rtol=1e-6)
    params = jax.tree.map(jnp.asarray, first.params)
    _, gradient = jax.value_and_grad(terms, has_aux=True)(params, rows(2), 2, 4)
    updates, _ = OPTIMIZER.update(gradient, skipped.opt_state, params)
    assert_trees_close(last.params, host(optax.apply_updates(params, updates)), 1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_many_steps_compile_once_and_update_the_state_in_place(accumulate):
    state, abstract, step, batch = small(mesh_of(8, 4), accumulate=accumulate)
    for number in range(20):
        before = state
        state, metrics = step(before, batch(number))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert step._cache_size() == 1
    assert_where_they_should_be(state, abstract)
    assert all(value.is_fully_replicated for value in metrics.values())


# --- HiCMAE: a compilation of some twenty seconds for each mesh ---------------------------------------------


def test_the_traced_step_of_hicmae_has_no_device_array_among_its_constants():
    """Compiling would copy it to the host, which the loop forbids; on a CPU such a copy raises no error."""
    config = shrunk_recipe.config(batch=16, seed=2**32 - 1)
    optimizer_config = config.optimizer_config(steps_per_epoch=1)
    mesh = mesh_of(8, 1)
    optimizer, abstract = build.abstract_run(config, optimizer_config, mesh)
    step = build.make_step(config, optimizer, optimizer_config.schedule(), abstract, mesh)
    held = step.trace(abstract, clips(config.batch)).jaxpr.consts
    assert held, "filters and positions are constants"
    assert not [value for value in held if isinstance(value, jax.Array)]


@functools.cache
def hicmae(devices=8, fsdp=1, accumulate=1):
    """The shrunk recipe: initial parameters, the state after steps from other parameters, all metrics."""
    # With the recipe's epsilon, Adam would turn the rounding of tiny gradients into updates.
    config = shrunk_recipe.config(batch=16, fsdp=fsdp, accumulate=accumulate, optimizer__epsilon=1e-3)
    optimizer_config = config.optimizer_config(steps_per_epoch=1)
    mesh = mesh_of(devices, fsdp)
    optimizer, abstract = build.abstract_run(config, optimizer_config, mesh)
    initialise = initialiser(config.model, config.masks, config.execution)
    state = train_state.create(initialise, optimizer, abstract, parameter_key(config.seed))
    assert_where_they_should_be(state, abstract)
    drawn, logged = host(state.params), []
    # From zero, biases would become multiples of their gradients, some of which are mostly rounding.
    begun = host(tiny_model.random_like(drawn))
    where = jax.tree.map(lambda leaf: leaf.sharding, abstract.params)
    state = state.replace(params=jax.device_put(begun, where))
    step = build.make_step(config, optimizer, optimizer_config.schedule(), abstract, mesh)
    batch = jax.device_put(clips(config.batch), sharding.batch_sharding(mesh))
    for _ in range(STEPS):
        state, metrics = step(state, batch)
        logged.append(host(metrics))
    assert_where_they_should_be(state, abstract)
    assert step._cache_size() == 1
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), begun, host(state.params))
    assert min(jax.tree.leaves(moved)) > 1e-5, "a parameter has not been trained"
    return drawn, host(state), logged


@pytest.mark.slow
def test_hicmae_trains_the_same_with_a_sharded_state():
    whole, split = hicmae(), hicmae(fsdp=4)
    jax.tree.map(np.testing.assert_array_equal, split[0], whole[0])  # the same draws on every mesh
    assert_same_training(split[1:], whole[1:])
    assert_trees_close(split[1].opt_state[0].mu, whole[1].opt_state[0].mu, 1e-5)
    assert_trees_close(split[1].opt_state[0].nu, whole[1].opt_state[0].nu, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [{"devices": 1}, {"devices": 1, "accumulate": 4}, {"fsdp": 8, "accumulate": 2}],
    ids=str,
)
def test_hicmae_trains_the_same_on_one_device_and_in_micro_batches(choices):
    reference, other = hicmae(), hicmae(**choices)
    jax.tree.map(np.testing.assert_array_equal, other[0], reference[0])
    assert_same_training(other[1:], reference[1:])
