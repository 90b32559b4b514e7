"""A run of several real processes equals a run of one, and continues with any number of them."""

import shutil

import jax
import numpy as np
import pytest

from hicmae_jax.checkpoints.load import load_parameters
from hicmae_jax.logs.metrics import read_metrics
from tests.support import shrunk_recipe
from tests.support.finetune_fixtures import write_labelled_set
from tests.support.several_hosts import environment, finish, start, start_hosts

pytestmark = pytest.mark.slow

DEVICES = 8
TOLERANCE = 1e-6
SETTINGS = {
    "steps": 10,
    "fsdp": 2,
    "checkpoint__every": 5,
    "checkpoint__keep": 10,
    # Micro-batches with negatives of the whole batch: all that processes can exchange about clips.
    "batch": 16,
    "accumulate": 2,
    "loss__negatives": "global",
    "evaluation__every": 5,
    "evaluation__clips": 6,
    "evaluation__batch": 8,
    "evaluation__picture_every": 5,
    "evaluation__probe_every": 5,
    # With the recipe's epsilon, Adam would turn the rounding errors of tiny gradients into large updates.
    "optimizer__epsilon": 1e-3,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    shrunk_recipe.write_clips(root / "dev")
    shrunk_recipe.write_clips(root / "test", 6)
    write_labelled_set(root / "labelled")
    return root


def command(data, directory):
    sets = {"evaluation__sets": (str(data / "test"),), "evaluation__labelled": data / "labelled"}
    return shrunk_recipe.arguments(data / "dev", directory, **sets, **SETTINGS)


def train(data, directory, compiled, processes):
    """Train to the end; return what the first process printed."""
    devices = DEVICES // processes
    if processes == 1:
        started = [start(command(data, directory), environment(compiled, devices))]
    else:
        started = start_hosts([command(data, directory)] * processes, compiled, devices)
    ended = finish(started)
    for code, _, err in ended:
        assert code == 0, err
    # Only the first process prints it.
    assert all("steps       10 of 16 clips" not in out for _, out, _ in ended[1:])
    return ended[0][1]


@pytest.fixture(scope="module")
def one(data, compiled, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "one"
    train(data, directory, compiled, 1)
    return directory


@pytest.fixture(scope="module")
def two(data, compiled, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "two"
    out = train(data, directory, compiled, 2)
    assert "8 × cpu, mesh {'data': 4, 'fsdp': 2}, 2 hosts" in out
    return directory


def parameters(directory, step):
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(load_parameters(directory, step)[0])])


def assert_same_run(directory, expected, steps=(5, 10)):
    """The updates of all parameters are the same, and each line of the log."""
    begun = parameters(expected, 0)
    for step in steps:
        params, others = parameters(directory, step), parameters(expected, step)
        # Not array by array: the gradients of some biases are sums of terms that cancel, so that these biases
        # change a hundred times less than others, and the order of the terms shows in their last digits.
        assert np.linalg.norm(params - others) < TOLERANCE * np.linalg.norm(others - begun)
    lines, expected_lines = read_metrics(directory), read_metrics(expected)
    assert len(lines) == len(expected_lines)
    for line, other in zip(lines, expected_lines):
        assert line["step"] == other["step"]
        compared = [name for name in other if not name.startswith("time/")]
        assert compared == [name for name in line if not name.startswith("time/")]
        for name in compared:
            # The uniformity of features that are nearly alike is the log of nearly 1.
            np.testing.assert_allclose(
                line[name], other[name], TOLERANCE, atol=1e-8, err_msg=f"{line['step']}: {name}"
            )


def test_two_processes_train_as_one_does(one, two):
    assert_same_run(two, one)


def test_only_the_first_process_writes_logs(two):
    assert sorted(path.name for path in two.iterdir()) == [
        "checkpoints",
        "config.json",
        "events.jsonl",
        "metrics.jsonl",
        "pictures",
        "versions.json",
    ]
    assert len(list((two / "pictures").iterdir())) == 2


@pytest.mark.parametrize("processes", [1, 4])
def test_a_run_of_two_processes_continues_with_another_number(one, two, data, compiled, tmp_path, processes):
    shutil.copytree(two, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved/checkpoints/10")  # as if killed before it was saved
    out = train(data, tmp_path / "moved", compiled, processes)
    assert "going on    from step 5 of 10" in out
    assert_same_run(tmp_path / "moved", one)
