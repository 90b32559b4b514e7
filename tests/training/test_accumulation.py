"""Micro-batches give the gradient of the whole batch, with all its negatives, on every mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.initialise import initialiser
from hicmae_jax.objective import contrastive
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.runs import build
from hicmae_jax.training import accumulation, sharding
from tests.support import shrunk_recipe, tiny_model
from tests.support.two_matrices import (
    assert_same_training,
    clips,
    gradient_of,
    host,
    mesh_of,
    rows,
    small,
    trained,
    two_matrices,
)


@pytest.fixture(scope="module")
def reference():
    """Training on one device without micro-batches."""
    return trained(mesh_of(1, 1))


# --- Groups of negatives: the mean over micro-batches -------------------------------------------------------


@pytest.mark.parametrize(("mesh", "accumulate"), [((1, 1), 2), ((8, 1), 2), ((8, 4), 4)], ids=str)
def test_micro_batches_of_whole_groups_give_the_same_result(reference, mesh, accumulate):
    """Even if a group's clips lie on several devices, and a device's clips in several micro-batches."""
    assert_same_training(trained(mesh_of(*mesh), accumulate=accumulate), reference)


def test_no_clip_is_sent_if_each_device_holds_whole_groups_for_every_micro_batch():
    def moves(group):
        state, _, step, batch = small(mesh_of(8, 1), accumulate=2, group=group)
        text = step.lower(state, batch(0)).compile().as_text()
        assert "all-reduce" in text  # gradients are summed over devices
        return {name for name in ("all-gather", "all-to-all", "collective-permute") if name in text}

    assert not moves(group=2)
    assert moves(group=16)  # a group of four devices' clips


# --- Negatives of the whole batch: two passes ---------------------------------------------------------------

STEP = jnp.int32(3)


def apart(mesh):
    """The loss of the two matrices in its two parts; its factor depends on the step."""

    def features(params, batch, step):
        return tuple(
            jnp.tanh(batch[name] @ params[name]["kernel"] + params[name]["bias"])
            for name in ("video", "audio")
        )

    def mean(params, batch, step):
        pair = features(params, batch, step)
        values = {name: jnp.square(x - 0.5).mean() for name, x in zip(("video", "audio"), pair)}
        return (1 + 0.1 * step) * (values["video"] + values["audio"]), values, pair

    def contrast(pair):
        levels = contrastive.info_nce(pair[:1], pair[1:], 0.5, None, mesh)
        return (1 + 0.1 * STEP) * levels.sum(), {
            "contrastive": levels.sum(),
            "contrastive_level_0": levels[0],
        }

    return accumulation.SplitLoss(features, mean, contrast)


def made(gradient, mesh, params, batch):
    batch = jax.device_put(batch, sharding.batch_sharding(mesh))
    params = jax.device_put(params, sharding.replicated(mesh))
    return host(jax.jit(gradient)(params, batch, STEP))


def difference(actual, expected):
    """The largest relative difference between two trees' leaves: norm of the difference / norm expected."""
    differences = jax.tree.map(lambda x, y: np.linalg.norm(x - y) / np.linalg.norm(y), actual, expected)
    return max(jax.tree.leaves(differences))


@pytest.mark.parametrize(("mesh", "count"), [((1, 1), 8), ((8, 1), 4), ((8, 4), 2)], ids=str)
def test_two_passes_give_the_whole_batchs_terms_and_gradient(mesh, count):
    mesh, params, batch = mesh_of(*mesh), host(two_matrices(jax.random.key(3))), rows(0)
    values, gradient = made(accumulation.two_pass(apart(mesh), count, mesh), mesh, params, batch)
    expected, of_all = made(gradient_of(mesh, group=None), mesh, params, batch)
    assert values.keys() == expected.keys()
    for name in values:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-5, err_msg=name)
    assert difference(gradient, of_all) < 1e-5
    # Micro-batches that see only their own negatives have another objective.
    values, gradient = made(gradient_of(mesh, count, group=None), mesh, params, batch)
    assert values["contrastive"] < expected["contrastive"] - 0.1
    assert difference(gradient, of_all) > 0.01


def test_two_passes_send_only_the_features_of_clips():
    mesh = mesh_of(8, 1)
    batch = jax.device_put(rows(0), sharding.batch_sharding(mesh))
    gradient = jax.jit(accumulation.two_pass(apart(mesh), 2, mesh))
    text = gradient.lower(two_matrices(jax.random.key(0)), batch, STEP).compile().as_text()
    sent = [line for line in text.splitlines() if "all-gather(" in line or "all-to-all(" in line]
    assert len(sent) == 2, sent  # the features, and one number for each
    assert "collective-permute" not in text


@pytest.mark.parametrize("group", [1, 2])
def test_micro_batches_take_groups_of_rows_in_turn(group):
    mesh = mesh_of(2, 1)
    parts = accumulation.cut({"row": jnp.arange(8)}, 2, group, mesh)
    expected = [[0, 2, 4, 6], [1, 3, 5, 7]] if group == 1 else [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert parts["row"].tolist() == expected
    if group == 1:
        assert accumulation.joined(parts, mesh)["row"].tolist() == list(range(8))


# --- HiCMAE -------------------------------------------------------------------------------------------------


def test_the_two_parts_of_the_objective_equal_the_whole():
    shallow = {"encoder_depth": 1, "skip_layers": (1,), "decoder_depth": 2, "fusion_depth": 0}
    model = HiCMAE(tiny_model.model_config(**shallow))
    loss = LossConfig(contrastive_weight=0.3, negatives="global")
    params, inputs = tiny_model.parameters(model.config), tiny_model.inputs(model.config)

    @jax.jit
    def both(params, inputs):
        whole = objective.pretrain_loss(model, params, inputs, loss)
        mean, values, levels = objective.reconstruction_loss_and_levels(model, params, inputs, loss)
        values |= objective.contrastive_terms(objective.encode_levels(model, params, inputs), loss)
        total = mean + 0.3 * objective.contrastive_terms(levels, loss)["contrastive"]
        return whole, (total, {"total": total} | values)

    whole, parts = host(both(params, inputs))
    assert parts[1].keys() == whole[1].keys()
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), parts, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("fsdp", "accumulate"), [(1, 2), (8, 4)])
def test_hicmaes_gradient_has_the_negatives_of_the_whole_batch(fsdp, accumulate):
    """The real step in micro-batches, whose inputs are cropped and masked by (seed, step, example)."""
    mesh = mesh_of(8, fsdp)

    def of(**changes):
        # A large weight, so that the contrastive loss shows in the gradient of all encoder parameters.
        config = shrunk_recipe.config(batch=32, loss__contrastive_weight=0.5, **changes)
        shapes = jax.eval_shape(initialiser(config.model, config.masks, config.execution), jax.random.key(0))
        params = host(tiny_model.random_like(shapes))
        return made(build.make_gradient(config, mesh), mesh, params, clips(config.batch))

    expected, of_all = of(loss__negatives="global")
    values, gradient = of(loss__negatives="global", accumulate=accumulate)
    for name in expected:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-5, err_msg=name)
    assert difference(gradient, of_all) < 1e-5
    alone, naive = of(loss__negatives=f"group:{32 // accumulate}", accumulate=accumulate)
    assert alone["contrastive"] < expected["contrastive"] - 0.1
    assert difference(naive["encoder"], of_all["encoder"]) > 0.01
