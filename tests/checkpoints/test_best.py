"""The best checkpoint by a score: which one it is, that it is kept, and how it is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.checkpoints.best import BestBy
from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.checkpoints.manager import Checkpoints
from tests.support.checkpoint_fixtures import RECORD, steps_in

HIGHEST = BestBy("emotion/accuracy", "max")


def state(step):
    return {"params": {"kernel": jnp.full(4, step, jnp.float32)}}


def save(run, scores, first=1, best=HIGHEST, **choices):
    """Save a step for each score; None for a step without one."""
    with Checkpoints(run, best=best, **choices) as checkpoints:
        for step, score in enumerate(scores, start=first):
            given = None if score is None else {"emotion/accuracy": score, "emotion/loss": 1.0}
            checkpoints.save(step, state(step), RECORD, given)


@pytest.mark.parametrize(
    ("mode", "scores", "left"),
    [
        ("max", [0.1, 0.9, 0.5, 0.4, None], [2, 4, 5]),
        ("min", [0.1, 0.9, 0.5, 0.4, 0.1], [1, 4, 5]),
        ("max", [float("nan"), 0.3, 0.3, 0.2, float("inf")], [2, 4, 5]),
        ("max", [None, None, None, 0.2, 0.3], [4, 5]),
    ],
)
def test_the_best_checkpoint_is_kept_besides_the_last(tmp_path, mode, scores, left):
    save(tmp_path, scores, keep=2, best=BestBy("emotion/accuracy", mode))
    assert steps_in(tmp_path) == left


def test_milestones_and_the_best_are_both_kept(tmp_path):
    save(tmp_path, [0.9, 0.1, 0.2, 0.3, 0.4], keep=1, milestone=2)
    assert steps_in(tmp_path) == [1, 2, 4, 5]


def test_the_best_is_known_after_a_restart(tmp_path):
    save(tmp_path, [0.2, 0.8, 0.1], keep=1)
    with Checkpoints(tmp_path, keep=1, best=HIGHEST) as checkpoints:
        assert checkpoints.last_good() == (3, [])
        assert not checkpoints.is_best({"emotion/accuracy": 0.8})
        assert checkpoints.is_best({"emotion/accuracy": 0.81})
        assert not checkpoints.is_best({"emotion/loss": 9.0})
    save(tmp_path, [0.7], first=4, keep=1)
    assert steps_in(tmp_path) == [2, 4]
    save(tmp_path, [0.9], first=5, keep=1)
    assert steps_in(tmp_path) == [5]


def test_the_best_is_found_by_its_name(tmp_path):
    save(tmp_path, [0.2, 0.8, 0.1])
    assert find_step(tmp_path, "best") == 2
    params, record = load_parameters(tmp_path, "best")
    jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(state(2)["params"]))
    assert record == RECORD | {"score": {"name": "emotion/accuracy", "mode": "max", "value": 0.8}}


def test_without_a_score_no_checkpoint_is_the_best(tmp_path):
    save(tmp_path, [0.2, 0.8], best=None)
    assert load_parameters(tmp_path)[1] == RECORD
    with pytest.raises(FileNotFoundError, match="no checkpoint has a score; the last one is of step 2"):
        find_step(tmp_path, "best")
    with pytest.raises(ValueError, match="step 'worst' is no checkpoint: give a number, or 'best'"):
        find_step(tmp_path, "worst")
    with pytest.raises(ValueError, match="mode = 'highest' of the best checkpoint: choose one of max, min"):
        BestBy("emotion/accuracy", "highest")


def test_a_damaged_best_checkpoint_is_moved_away_and_the_next_is_the_best(tmp_path):
    save(tmp_path, [0.2, 0.8, 0.5, 0.1], keep=4)
    next((tmp_path / "checkpoints/2/state/d").iterdir()).unlink()
    with Checkpoints(tmp_path, keep=4, best=HIGHEST) as checkpoints:
        step, (line,) = checkpoints.last_good()
        assert step == 4
        assert checkpoints.is_best({"emotion/accuracy": 0.6})
    assert "the best checkpoint, of step 2, is damaged" in line
    assert (tmp_path / "damaged_checkpoints/2").exists()
    assert find_step(tmp_path, "best") == 3
