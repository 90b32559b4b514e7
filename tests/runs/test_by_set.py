"""What is logged of each set, against numbers by hand, on every mesh and in micro-batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.model.hicmae import HiCMAE, forward
from hicmae_jax.model.initialise import initialiser
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.preprocessing.pretrain import preprocess_batch
from hicmae_jax.runs import build
from hicmae_jax.runs.by_set import means_by_set, sums_by_set, with_shares
from hicmae_jax.training import accumulation, sharding
from tests.support import shrunk_recipe, tiny_model
from tests.support.two_matrices import clips, host, mesh_of

SETS = NamedSets(("few", "a/dev", "b/dev", "unseen"), (0, 3, 10, 40))
EXAMPLES = np.random.default_rng(0).permutation(32).astype(np.int32)
OWN = {"few": EXAMPLES < 3, "a/dev": (EXAMPLES >= 3) & (EXAMPLES < 10), "b/dev": EXAMPLES >= 10}
STEP = jnp.int32(3)


# --- A line of the log --------------------------------------------------------------------------------------


def test_a_set_without_clips_has_a_share_of_zero_and_no_loss():
    values = {"loss/total": 1.0, "loss/audio/few": 2.0, "loss/video/b/dev": float("nan"), "rate/b/dev": 3.0}
    logged = with_shares(values, np.array([0, 2, 4, 9]), SETS)
    assert logged == {
        "loss/total": 1.0,
        "loss/audio/few": 2.0,
        "rate/b/dev": 3.0,
        "data/share/few": 0.5,
        "data/share/a/dev": 0.5,
        "data/share/b/dev": 0,
        "data/share/unseen": 0,
    }


# --- The sums in the step, with a loss of one matrix --------------------------------------------------------


def loss_terms(params, batch, step):
    losses = {
        objective.OF_CLIPS[name]: jnp.square(batch[name] @ params[name] - step).mean(1)
        for name in ("video", "audio")
    }
    terms = {name: losses[of_clips].mean() for name, of_clips in objective.OF_CLIPS.items()}
    total = terms["video"] + terms["audio"]
    return total, sums_by_set({"total": total, **terms, **losses}, batch, SETS)


def split_loss():
    """The same, and a contrast that is no loss at all."""
    return accumulation.SplitLoss(
        lambda params, batch, step: batch["video"] @ params["video"],
        lambda params, batch, step: (*loss_terms(params, batch, step), batch["video"] @ params["video"]),
        lambda features: (0.0 * features.sum(), {"contrastive": 0.0 * features.sum()}),
    )


def made_up():
    rng = np.random.default_rng(1)
    batch = {name: rng.standard_normal((32, 5)).astype(np.float32) for name in ("video", "audio")}
    params = {name: rng.standard_normal((5, 3)).astype(np.float32) for name in ("video", "audio")}
    return params, batch | {"example": EXAMPLES}


def gradient_of(kind, mesh):
    if kind == "whole":
        return accumulation.whole_batch(loss_terms)
    if kind == "two passes":
        return accumulation.two_pass(split_loss(), 4, mesh)
    return accumulation.mean_of_micro_batches(loss_terms, 4, 2, mesh)


def run_on(gradient, mesh, params, batch):
    batch = jax.device_put(batch, sharding.batch_sharding(mesh))
    return host(jax.jit(gradient)(jax.device_put(params, sharding.replicated(mesh)), batch, STEP))


@pytest.mark.parametrize("kind", ["whole", "micro-batches", "two passes"])
@pytest.mark.parametrize("mesh", [(1, 1), (8, 1), (8, 4)], ids=str)
def test_losses_of_sets_are_means_over_their_clips(kind, mesh):
    mesh, (params, batch) = mesh_of(*mesh), made_up()
    values, _ = run_on(means_by_set(gradient_of(kind, mesh), SETS), mesh, params, batch)
    for term in ("video", "audio"):
        losses = np.square(batch[term] @ params[term] - 3).mean(1)
        np.testing.assert_allclose(values[term], losses.mean(), rtol=1e-5)
        for name, own in OWN.items():
            np.testing.assert_allclose(values[f"{term}/{name}"], losses[own].mean(), rtol=1e-5, err_msg=name)
        assert np.isnan(values[f"{term}/unseen"])
    assert all(np.ndim(value) == 0 for value in values.values())


def test_a_loss_that_is_not_finite_stays_in_its_set():
    params, batch = made_up()
    batch["video"][EXAMPLES == 1] = np.nan
    mesh = mesh_of(1, 1)
    values, _ = run_on(means_by_set(gradient_of("whole", mesh), SETS), mesh, params, batch)
    found = {name: bool(np.isfinite(values[f"video/{name}"])) for name in OWN}
    assert found == {"few": False, "a/dev": True, "b/dev": True}
    assert np.isfinite(values["audio/few"])


# --- HiCMAE -------------------------------------------------------------------------------------------------


def parameters_and_batch(config):
    shapes = jax.eval_shape(initialiser(config.model, config.masks, config.execution), jax.random.key(0))
    return host(tiny_model.random_like(shapes)), clips(16) | {"example": EXAMPLES[:16]}


@pytest.fixture(scope="module")
def by_hand():
    """The loss of each clip: the objective of a batch of this clip alone."""
    config = shrunk_recipe.config(batch=16)
    model, (params, batch) = HiCMAE(config.model, config.execution), parameters_and_batch(config)

    @jax.jit
    def one(batch):
        inputs = preprocess_batch(batch, jax.random.key(config.seed), STEP, config.preprocess)
        goals = objective.masked_targets(model, inputs)
        return objective.reconstruction_terms(forward(model, params, inputs), *goals)

    rows = [jax.tree.map(lambda rows, i=i: rows[i : i + 1], batch) for i in range(len(batch["example"]))]
    found = [host(one(row)) for row in rows]
    return {name: np.array([row[name] for row in found]) for name in ("video", "audio")}


def of_recipe(mesh, sets, **changes):
    """The terms and the gradient of the shrunk recipe."""
    config = shrunk_recipe.config(batch=16, **changes)
    return run_on(build.make_gradient(config, mesh, sets), mesh, *parameters_and_batch(config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "changes"),
    [
        ((1, 1), {}),
        ((8, 2), {}),
        ((2, 1), {"accumulate": 2}),
        ((2, 2), {"execution__dtype": "bfloat16"}),
        ((4, 4), {"accumulate": 2, "loss__negatives": "global"}),
    ],
    ids=str,
)
def test_losses_of_sets_change_no_other_number(by_hand, mesh, changes):
    """Against the losses of single clips; and the terms and the gradient are those without, bit for bit."""
    mesh = mesh_of(*mesh)
    values, gradient = of_recipe(mesh, SETS, **changes)
    for name, own in OWN.items():
        for term in ("video", "audio"):
            expected = by_hand[term][own[:16]].mean()
            tolerance = 0.02 if "execution__dtype" in changes else 1e-5
            np.testing.assert_allclose(values[f"{term}/{name}"], expected, rtol=tolerance, err_msg=name)
    plain, plain_gradient = of_recipe(mesh, None, **changes)
    assert plain.keys() == {name for name in values if "/" not in name}
    jax.tree.map(np.testing.assert_array_equal, {name: values[name] for name in plain}, plain)
    jax.tree.map(np.testing.assert_array_equal, gradient, plain_gradient)
