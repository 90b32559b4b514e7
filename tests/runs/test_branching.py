"""A branch of a run ends like a run that had its length from the start, or is refused in one line."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.runs import branching
from hicmae_jax.runs.branching import Branch
from hicmae_jax.training import optimizer as optim
from tests.support import shrunk_recipe
from tests.support.corpus_fixtures import tree
from tests.support.real_runs import last_state, lines_without_times
from tests.support.several_hosts import environment, finish, start

DATA = {"data/dev": "0f0f"}
# Stable until step 32 of 40; a run of 20 steps decays from step 16 on.
LONG = {"steps": 40, "warmup_steps": 4, "optimizer__schedule": "wsd"}
SHORT = LONG | {"steps": 20}


@pytest.fixture
def long(tmp_path):
    """A run with checkpoints before and after the shorter run's decay begins; its state is arbitrary."""
    record = {"config": shrunk_recipe.config(**LONG).to_dict(), "versions": {}, "data": DATA}
    with Checkpoints(tmp_path / "long", keep=9) as checkpoints:
        for step in (0, 12, 17, 18, 24):
            checkpoints.save(step, {"params": {"kernel": np.full(3, step)}}, record)
    return tmp_path / "long"


def begin(source, directory, step=None, data=DATA, allow=False, **changes):
    config = shrunk_recipe.config(**changes)
    schedule = config.optimizer_config(1).schedule()
    return branching.begin(Branch(str(source), step), directory, config.to_dict(), data, schedule, 1, allow)


@pytest.mark.parametrize("step", [0, 12, 17])
def test_the_checkpoint_is_copied_exactly_and_only_once(long, tmp_path, step):
    before, new = tree(long), tmp_path / "short"
    path = long / "checkpoints" / str(step)
    assert begin(long, new, step, **SHORT) == f"branched from {path}"
    assert os.listdir(new / "checkpoints") == [str(step)]
    assert tree(new / "checkpoints" / str(step)) == tree(path)
    with Checkpoints(new) as checkpoints:
        assert checkpoints.last_good() == (step, [])
    # Once the branch has a checkpoint, it resumes from its own, even if the other run is gone.
    assert tree(long) == before
    shutil.rmtree(long)
    assert begin(long, new, 12, **SHORT) is None


def test_without_a_step_the_last_checkpoint_is_copied(long, tmp_path):
    assert begin(long, tmp_path / "same", **LONG).endswith("checkpoints/24")


def test_an_interrupted_copy_is_not_taken_for_a_checkpoint(long, tmp_path):
    partial = tmp_path / "short/checkpoints/12.partial"
    partial.mkdir(parents=True)
    (partial / "record.json").write_text("{")
    begin(long, tmp_path / "short", 12, **SHORT)
    assert tree(tmp_path / "short/checkpoints/12") == tree(long / "checkpoints/12")


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        # The first step of the decay still has the stable rate, so a branch may start after it.
        (
            18,
            SHORT,
            r"of the config: 0\.003125 at step 17 instead of 0\.001\d+; take a checkpoint of step 17 or",
        ),
        (24, SHORT, r"take a checkpoint of step 17 or before, or go on with --allow_changes"),
        (12, SHORT | {"optimizer__schedule": "cosine"}, r"take a checkpoint of step 5 or before"),
        (12, SHORT | {"optimizer__base_rate": 0.2}, r"take a checkpoint of step 1 or before"),
        (12, SHORT | {"warmup_steps": 8}, r"take a checkpoint of step 1 or before"),
        (12, SHORT | {"batch": 16}, r"batch is 8 in the checkpoint, 16 in the config"),
        (12, SHORT | {"data": {"data/dev": "1e1e"}}, "the data are 0f0f in the checkpoint, 1e1e now"),
        (12, SHORT | {"optimizer__kind": "lamb"}, r"optimizer\.kind is 'adamw' in the checkpoint, 'lamb' in"),
        (13, SHORT, "holds no checkpoint of step 13; it holds those of 0, 12, 17, 18, 24"),
    ],
)
def test_a_checkpoint_that_does_not_fit_the_new_run_is_refused(long, tmp_path, step, changes, message):
    before = tree(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        begin(long, tmp_path / "short", step, **changes)
    assert "\n" not in str(refused.value)
    assert tree(tmp_path) == before
    assert not (tmp_path / "short").exists()


def test_other_rates_are_accepted_if_allowed(long, tmp_path):
    begin(long, tmp_path / "short", 24, allow=True, **SHORT | {"steps": 30})
    assert (tmp_path / "short/checkpoints/24").exists()


def test_a_damaged_checkpoint_and_the_run_itself_are_refused(long, tmp_path):
    with pytest.raises(ValueError, match=r"--branch_from=.* is the run itself: give --run a new directory"):
        begin(long, tmp_path / "raw/../long", **SHORT)
    (long / "checkpoints/12/record.json").write_text("{}")
    with pytest.raises(ValueError, match=r"step 12 is damaged \(record.json has 2 bytes instead of"):
        begin(long, tmp_path / "short", 12, **SHORT)
    assert not (tmp_path / "short").exists()


@pytest.mark.parametrize("kind", optim.KINDS)
def test_a_branch_makes_the_updates_of_a_run_of_its_length(kind):
    """With the whole optimiser; the gradients depend on the step and on the parameters."""
    params = {"encoder": {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4)}, "mask_token": jnp.ones(3)}

    def steps_of(total):
        choices = {
            "shape": "wsd",
            "epochs": total,
            "warmup_epochs": 4,
            "steps_per_epoch": 1,
            "base_rate": 0.1,
        }
        return optim.make_optimizer(optim.OptimizerConfig(kind=kind, **choices), params)

    def run(total, first, last, state):
        optimizer = steps_of(total)

        @jax.jit
        def update(step, params, opt_state):
            gradient = jax.tree.map(lambda leaf: jnp.sin(step + 3 * leaf), params)
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        for step in range(first, last):
            state = update(step, *state)
        return state

    begun = params, steps_of(40).init(params)
    branched = run(20, 17, 20, run(40, 0, 17, begun))
    jax.tree.map(np.testing.assert_array_equal, branched, run(20, 0, 20, begun))
    too_late = run(20, 18, 20, run(40, 0, 18, begun))
    assert (too_late[0]["encoder"]["kernel"] != branched[0]["encoder"]["kernel"]).any()


@pytest.mark.slow
def test_a_trained_branch_ends_like_a_run_that_had_its_length_from_the_start(tmp_path, compiled):
    data = shrunk_recipe.write_clips(tmp_path / "set")

    def run(name, *options, **settings):
        arguments = shrunk_recipe.arguments(data, tmp_path / name, checkpoint__keep=99, **settings)
        process = start([*arguments, *options], environment(compiled, 1))
        ((code, out, err),) = finish([process])
        assert code == 0, err
        return out

    branch = (f"--branch_from={tmp_path / 'long'}", "--branch_step=16")
    run("long", **LONG)
    run("whole", **SHORT)
    assert "going on    from step 16 of 20" in run("branched", *branch, **SHORT)
    states = [last_state(tmp_path / name, data, **SHORT) for name in ("branched", "whole")]
    assert states[0][0] == 20
    jax.tree.map(np.testing.assert_array_equal, *states)
    lines = lines_without_times(tmp_path / "whole")
    assert lines_without_times(tmp_path / "branched") == [line for line in lines if line["step"] > 16]
    assert "branched from" in (tmp_path / "branched/events.jsonl").read_text().splitlines()[0]
    # The long run's rate differs at this step, so the comparison above is not empty.
    assert lines_without_times(tmp_path / "long")[19]["rate"] > lines[19]["rate"]
    # The same command again resumes the branch, which is finished.
    before = tree(tmp_path / "branched")
    assert "finished    already" in run("branched", *branch, **SHORT)
    assert tree(tmp_path / "branched") == before
