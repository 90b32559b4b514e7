"""A checkpoint whose directory has the name of another step is damaged; other names are no checkpoints."""

import shutil

import numpy as np
import pytest
from etils import epath

from hicmae_jax.checkpoints import reader
from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.checkpoints.manager import Checkpoints
from tests.support.checkpoint_fixtures import RECORD
from tests.support.corpus_fixtures import tree


def write(run, steps=(2, 3)):
    with Checkpoints(run) as checkpoints:
        for step in steps:
            state = {"params": {"kernel": np.full(3, step, np.float32)}, "step": np.int32(step)}
            checkpoints.save(step, state, RECORD)
    return run / "checkpoints"


def test_a_renamed_checkpoint_is_moved_away_and_the_one_before_is_used(tmp_path):
    root = write(tmp_path)
    (root / "3").rename(root / "1000")
    with pytest.raises(ValueError, match=r"step 1000 is damaged \(its state is of step 3: somebody has"):
        load_parameters(tmp_path)
    assert load_parameters(tmp_path, 2)[0]["kernel"].tolist() == [2, 2, 2]
    with Checkpoints(tmp_path) as checkpoints:
        step, (line,) = checkpoints.last_good()
    assert step == 2
    assert line.startswith(
        "the checkpoint of step 1000 is damaged (its state is of step 3: somebody has renamed"
    )
    assert (tmp_path / "damaged_checkpoints/1000/record.json").exists()


def test_a_copy_under_another_step_is_damaged_and_the_original_is_not(tmp_path):
    root = write(tmp_path)
    shutil.copytree(root / "3", root / "12")
    with Checkpoints(tmp_path) as checkpoints:
        step, (line,) = checkpoints.last_good()
    assert step == 3
    assert "the checkpoint of step 12 is damaged (its state is of step 3" in line


def test_if_the_only_checkpoint_is_renamed_nothing_is_moved(tmp_path):
    root = write(tmp_path, steps=(3,))
    (root / "3").rename(root / "1000")
    before = tree(tmp_path)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="every checkpoint is damaged"):
        checkpoints.last_good()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["003", "٤", "4 ", "+4", "4.0", "4.partial", "-4", "4_0"])
def test_a_name_that_no_run_would_write_is_no_checkpoint(tmp_path, name):
    root = write(tmp_path)
    shutil.copytree(root / "3", root / name)
    assert find_step(tmp_path) == 3
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_good() == (3, [])


@pytest.mark.parametrize("name", ["run#1", "a b", "50%", "what?", "a:b", "é", "[1]"])
def test_the_step_is_read_from_directories_of_any_name(tmp_path, name):
    (tmp_path / name).mkdir()
    root = write(tmp_path / "plain")
    shutil.copytree(root / "3", tmp_path / name / "3")
    assert reader.read_step(epath.Path(tmp_path / name / "3")) == 3


def test_a_state_without_a_step_is_taken_by_its_name(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, {"params": {"kernel": np.ones(2, np.float32)}}, RECORD)
    assert reader.read_step(epath.Path(tmp_path / "checkpoints/5")) is None
    assert find_step(tmp_path) == 5
    load_parameters(tmp_path)
