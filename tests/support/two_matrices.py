"""Training a model of two matrices, whose step compiles fast, and comparing two trainings of any model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hicmae_jax.objective import losses
from hicmae_jax.training import accumulation, sharding
from hicmae_jax.training import state as train_state
from hicmae_jax.training import step as train_step
from tests.support.trees import assert_trees_close

STEPS = 4
ROWS = 32
SCHEDULE = optax.linear_schedule(0.1, 0.2, 10)
OPTIMIZER = optax.adamw(SCHEDULE, eps=1e-3)


def two_matrices(key):
    """Random parameters of the model."""
    keys = jax.random.split(key)
    return {
        name: {"kernel": 0.3 * jax.random.normal(key, (24, 16)), "bias": jnp.zeros(16)}
        for name, key in zip(("video", "audio"), keys)
    }


def terms(params, batch, step, group):
    """The loss and its terms, with the names that pre-training has."""
    pairs = {
        name: jnp.tanh(batch[name] @ params[name]["kernel"] + params[name]["bias"])
        for name in ("video", "audio")
    }
    values = {name: jnp.square(pairs[name] - 0.5).mean() for name in pairs}
    level = losses.info_nce_reference(pairs["video"], pairs["audio"], 0.5, group)
    values |= {"contrastive": level, "contrastive_level_0": level}
    # The loss depends on the step's number, as augmentation and masks do.
    values["total"] = (1 + 0.1 * step) * (values["video"] + values["audio"] + level)
    return values["total"], values


def rows(number):
    """The batch of a step."""
    rng = np.random.default_rng(number)
    batch = {name: rng.standard_normal((ROWS, 24)).astype(np.float32) for name in ("video", "audio")}
    return batch | {"replaced": (np.arange(ROWS) < 3).astype(np.int32)}


def gradient_of(mesh, accumulate=1, group=4, of=terms):
    """A function that computes terms and gradient, in so many micro-batches."""
    of_group = functools.partial(of, group=group)
    if accumulate == 1:
        return accumulation.whole_batch(of_group)
    return accumulation.mean_of_micro_batches(of_group, accumulate, group or 1, mesh)


def small(mesh, **choices):
    """(state, its shapes, step function, number → batch)."""
    abstract = train_state.abstract_state(two_matrices, OPTIMIZER, mesh, scanned=False)
    state = train_state.create(two_matrices, OPTIMIZER, abstract, jax.random.key(3))
    gradient = gradient_of(mesh, **choices)
    step = train_step.make_train_step(gradient, OPTIMIZER, SCHEDULE, abstract, mesh)
    where = sharding.batch_sharding(mesh)
    return state, abstract, step, lambda number: jax.device_put(rows(number), where)


def trained(*arguments, **choices):
    """Train for `STEPS` steps; the state and the metrics of each step."""
    state, _, step, batch = small(*arguments, **choices)
    logged = []
    for number in range(STEPS):
        state, metrics = step(state, batch(number))
        logged.append(host(metrics))
    return host(state), logged


def mesh_of(devices, fsdp):
    """A mesh of the first devices."""
    return sharding.make_mesh(fsdp, jax.devices()[:devices])


def host(tree):
    """Copies of arrays on the host, for a step deletes the arrays that it is given."""
    return jax.tree.map(np.array, tree)


def assert_same_training(actual, expected):
    """Both trainings, each a state and metrics, have the same parameters and metrics."""
    assert_trees_close(actual[0].params, expected[0].params, 1e-5)
    for one, other in zip(actual[1], expected[1], strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5, err_msg=name)


def clips(batch):
    """A host batch of noise: 4 frames of 16 × 16 pixels and 6,000 samples a clip."""
    rng = np.random.default_rng(0)
    return {
        "frames": rng.integers(0, 256, (batch, 4, 16, 16, 3), np.uint8),
        "audio": rng.integers(-9_000, 9_000, (batch, 6_000), np.int16),
        "samples": np.full(batch, 6_000, np.int32),
        "example": np.arange(batch, dtype=np.int32),
        "replaced": np.zeros(batch, np.int32),
    }
