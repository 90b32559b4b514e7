"""An update of fine-tuning is the same in micro-batches, on any number of devices, and with a split state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.reading.device_feed import sharding_rows
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.initialise import finetune_initialiser
from hicmae_jax.objective.finetune import CROSS_ENTROPY
from hicmae_jax.preprocessing import missing
from hicmae_jax.runs.finetune_loss import finetune_terms
from hicmae_jax.training import accumulation, sharding
from hicmae_jax.training import optimizer as optim
from hicmae_jax.training import state as train_state
from hicmae_jax.training.step import make_train_step
from tests.support import finetune_fixtures
from tests.support.finetune_fixtures import CLASSES, MODEL, SIDE
from tests.support.trees import assert_trees_close
from tests.support.two_matrices import host, mesh_of

BATCH = 16
PLAIN = {
    "mixing__probability": 0.0,
    "finetune__drop_path": 0.0,
    "batch": BATCH,
    # With the recipe's epsilon, Adam would turn the rounding errors of tiny gradients into large updates.
    "optimizer__epsilon": 1e-3,
}


def clips():
    rng = np.random.default_rng(0)
    shape = (BATCH, MODEL.frames, SIDE, SIDE, 3)
    return {
        "frames": rng.integers(0, 256, shape, dtype=np.uint8),
        "audio": rng.integers(-9_000, 9_000, (BATCH, 6_000), dtype=np.int16),
        "samples": np.full(BATCH, 6_000, np.int32),
        "example": rng.permutation(100)[:BATCH].astype(np.int32),
        "replaced": np.zeros(BATCH, np.int32),
        "label": np.eye(len(CLASSES), dtype=np.float32)[rng.integers(0, len(CLASSES), BATCH)],
    }


def terms_of(config):
    finetune = config.for_outputs(len(CLASSES))
    model = HiCMAEFinetune(config.model, finetune, config.execution)
    initialise = finetune_initialiser(config.model, finetune, config.execution, from_scratch=True)
    params = jax.eval_shape(initialise, jax.random.key(0))
    frozen = jax.tree.map(lambda _: False, params)
    return finetune_terms(model, config, CROSS_ENTROPY, None, frozen), initialise, params


def trained(devices=1, accumulate=1, steps=2, **choices):
    """Parameters after some updates, and the loss of each; on a mesh of that many devices."""
    config = finetune_fixtures.config("unused", accumulate=accumulate, **{**PLAIN, **choices})
    mesh = mesh_of(devices, config.fsdp)
    terms, initialise, params = terms_of(config)
    gradient = accumulation.whole_batch(terms)
    if accumulate > 1:
        gradient = accumulation.mean_of_micro_batches(terms, accumulate, 1, mesh)
    chosen = config.optimizer_config(2)
    optimizer = optim.make_optimizer(chosen, params)
    abstract = train_state.abstract_state(initialise, optimizer, mesh, config.execution.scan_encoders)
    step = make_train_step(gradient, optimizer, chosen.schedule(), abstract, mesh)
    state = train_state.create(initialise, optimizer, abstract, jax.random.key(1))
    spread = sharding.batch_sharding(mesh)
    assert len(sharding_rows(spread, BATCH)) == BATCH
    batch = jax.device_put(clips(), spread)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss/total"]))
    return host(state.params), losses, state


@pytest.fixture(scope="module")
def reference():
    return trained()


@pytest.mark.parametrize(
    "choices",
    [
        {"accumulate": 2},
        {"devices": 8},
        {"devices": 8, "accumulate": 2},
        {"devices": 8, "fsdp": 2},
    ],
    ids=str,
)
def test_the_result_is_that_of_one_device_and_one_batch(reference, choices):
    params, losses, state = trained(**choices)
    np.testing.assert_allclose(losses, reference[1], rtol=1e-5)
    assert_trees_close(params, reference[0], 2e-5)
    kernel = state.params["encoder"]["blocks_0"]["mlp"]["fc1"]["kernel"]
    assert (kernel.sharding.spec == jax.P()) == ("fsdp" not in choices)


def test_mixing_and_drop_path_are_the_same_on_any_number_of_devices(reference):
    choices = {"mixing__probability": 1.0, "finetune__drop_path": 0.3, "tuning__modality_dropout": 0.5}
    one, many = trained(steps=1, **choices), trained(devices=8, steps=1, **choices)
    np.testing.assert_allclose(one[1], many[1], rtol=1e-5)
    assert one[1] != reference[1][:1]


def test_micro_batches_drop_other_paths():
    """Micro-batches of the same clips, under other ids, differ in their paths alone."""
    still = {"preprocess__crop": False, "preprocess__flip": 0.0, "preprocess__erase": 0.0}
    still |= {"preprocess__gain": False, "finetune__drop_path": 0.9}
    terms, initialise, _ = terms_of(finetune_fixtures.config("unused", **{**PLAIN, **still}))
    params, batch = jax.jit(initialise)(jax.random.key(1)), clips()
    parts = [{**batch, "example": batch["example"] + shift} for shift in (0, 0, 1)]
    first, again, other = (float(jax.jit(terms)(params, part, jnp.int32(3))[0]) for part in parts)
    assert first == again != other


def test_a_step_hides_modalities_of_the_clips_drawn_for_it(monkeypatch):
    """Half of the clips lose one, and these are the clips whose keys say so."""
    seen = []

    def record(video, log_mel, no_video, no_audio):
        seen.append((no_video, no_audio))
        return hide(video, log_mel, no_video, no_audio)

    hide = missing.hide
    monkeypatch.setattr("hicmae_jax.runs.finetune_loss.hide", record)
    config = finetune_fixtures.config("unused", **{**PLAIN, "tuning__modality_dropout": 0.5})
    terms, initialise, _ = terms_of(config)
    terms(jax.jit(initialise)(jax.random.key(1)), jax.tree.map(jnp.asarray, clips()), jnp.int32(3))
    (no_video, no_audio) = map(np.asarray, seen[0])
    assert 2 <= (no_video | no_audio).sum() <= 14
    assert not (no_video & no_audio).any()
