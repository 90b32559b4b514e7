"""A saved state is restored bit for bit, on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.training import sharding
from hicmae_jax.training.state import TrainState
from tests.support.checkpoint_fixtures import RECORD, assert_same_bits, steps_in

# NaN, a subnormal number, and negative zero.
AWKWARD = [np.nan, 1e-42, -0.0]
DEVICES_AND_FSDP = [(8, 1), (8, 4), (8, 8), (4, 2), (2, 1), (1, 1)]


def mesh_of(devices, fsdp):
    return sharding.make_mesh(fsdp, jax.devices()[:devices])


def on_mesh(tree, mesh):
    """Shapes and shardings of a state's leaves."""
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        tree,
        sharding.state_shardings(tree, mesh, scan_encoders=False),
    )


def state_at(step, mesh, width=16):
    """A state with different random values in every leaf."""
    rng = np.random.default_rng(step)
    params = {
        "encoder": {"fc": {"kernel": np.zeros((width, 8), np.float32), "bias": np.zeros(8, np.float32)}},
        "head": {"kernel": np.zeros((8, 24), np.float32)},
    }
    opt_state = optax.adamw(1e-3).init(params)
    counts = dict.fromkeys(("step", "replaced", "skipped", "skipped_in_row"), np.int32(step))
    empty = TrainState(params=params, opt_state=opt_state, **counts)

    def fill(leaf, where):
        if not leaf.shape:
            return jax.device_put(jnp.int32(step), where.sharding)
        values = rng.standard_normal(leaf.shape).astype(np.float32)
        values.flat[: len(AWKWARD)] = AWKWARD
        return jax.device_put(values, where.sharding)

    return jax.tree.map(fill, empty, on_mesh(empty, mesh))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints of steps 5 and 6, from eight devices that split parameters in two."""
    run = tmp_path_factory.mktemp("run")
    states = {step: state_at(step, mesh_of(8, 2)) for step in (5, 6)}
    with Checkpoints(run) as checkpoints:
        for step, state in states.items():
            checkpoints.save(step, state, RECORD | {"step": step})
    return run, states


@pytest.mark.parametrize(("devices", "fsdp"), DEVICES_AND_FSDP)
def test_a_state_is_restored_exactly_on_every_mesh(saved, devices, fsdp):
    run, states = saved
    wanted = on_mesh(states[6], mesh_of(devices, fsdp))
    with Checkpoints(run) as checkpoints:
        restored = checkpoints.restore(wanted)
    assert_same_bits(restored, states[6])
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == jax.tree.map(
        lambda leaf: leaf.sharding, wanted
    )


def test_eight_devices_restore_a_state_saved_by_one(tmp_path):
    state = state_at(1, mesh_of(1, 1))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, RECORD)
        assert_same_bits(checkpoints.restore(on_mesh(state, mesh_of(8, 4))), state)


def test_the_record_is_restored(saved):
    run, _ = saved
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest_step() == 6
        assert checkpoints.read_record() == RECORD | {"step": 6}


@pytest.mark.parametrize("inside", ["", "checkpoints"])
def test_parameters_can_be_loaded_without_the_state_as_numpy_arrays(saved, inside):
    run, states = saved
    params, record = load_parameters(run / inside)
    assert_same_bits(params, states[6].params)
    assert {type(leaf) for leaf in jax.tree.leaves(params)} == {np.ndarray}
    assert record == RECORD | {"step": 6}
    assert_same_bits(load_parameters(run, step=5)[0], states[5].params)
    assert (find_step(run / inside), find_step(run, step=5)) == (6, 5)


def test_a_relative_directory_can_be_read(saved, monkeypatch):
    run, states = saved
    monkeypatch.chdir(run.parent)
    assert_same_bits(load_parameters(run.name)[0], states[6].params)


def test_the_last_and_the_milestones_are_kept(tmp_path):
    state = state_at(1, mesh_of(1, 1))
    with Checkpoints(tmp_path, keep=2, milestone=3) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(step, state, RECORD)
    assert steps_in(tmp_path) == [3, 6, 7]
    with Checkpoints(tmp_path, keep=2, milestone=3) as checkpoints:
        checkpoints.save(8, state, RECORD)
        checkpoints.save(10, state, RECORD)
    assert steps_in(tmp_path) == [3, 6, 8, 10]


def test_checkpoints_for_branches_are_kept(tmp_path):
    state = state_at(1, mesh_of(1, 1))
    with Checkpoints(tmp_path, keep=1, branches=(2, 5)) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(step, state, RECORD)
    assert steps_in(tmp_path) == [2, 5, 7]


def test_a_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    state = state_at(1, mesh_of(8, 2), width=4096)
    expected = jax.tree.map(np.array, state)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, RECORD)
        jax.block_until_ready(overwrite(state))
        assert_same_bits(checkpoints.restore(on_mesh(expected, mesh_of(8, 2))), expected)


def test_saving_a_step_that_is_not_later_is_refused(saved):
    run, states = saved
    with Checkpoints(run) as checkpoints, pytest.raises(ValueError, match="step 6 cannot be saved, because"):
        checkpoints.save(6, states[6], RECORD)


@pytest.mark.parametrize("numbers", [{"keep": 0}, {"milestone": 0}])
def test_a_policy_that_would_keep_nothing_is_refused(tmp_path, numbers):
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoints(tmp_path / "run", **numbers)
    assert not (tmp_path / "run").exists()


def test_a_missing_checkpoint_is_refused_with_what_is_there(saved, tmp_path):
    run, _ = saved
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7; it holds those of 5, 6$"):
        load_parameters(run, step=7)
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such directory$"):
        load_parameters(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no complete checkpoint, only nothing$"):
        load_parameters(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no complete checkpoint, only notes.txt$"):
        load_parameters(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt"}


def test_a_state_of_other_arrays_is_refused_by_name(saved):
    run, _ = saved
    mesh = mesh_of(1, 1)
    other = state_at(6, mesh, width=32)
    other.params["decoder"] = other.params.pop("head")
    message = (
        r"6: the checkpoint does not fit: params/decoder/kernel is missing; "
        r"params/head/kernel has no place in this run; "
        r"params/encoder/fc/kernel is float32\[16, 8\], not float32\[32, 8\] and 2 more$"
    )
    with Checkpoints(run) as checkpoints, pytest.raises(ValueError, match=message):
        checkpoints.restore(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), other))
