"""Real runs, stopped at moments that nobody chose, end as runs that were never stopped."""

import random
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.runs import build
from hicmae_jax.training import sharding
from tests.support import shrunk_recipe
from tests.support.processes import start_module, wait_until
from tests.support.run_fixtures import lines_without_times
from tests.support.several_hosts import environment
from tests.support.trees import assert_trees_close

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return shrunk_recipe.write_clips(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def start(data, compiled):
    """(directory, devices, settings) → a process that trains."""

    def started(directory, devices, **settings):
        command = shrunk_recipe.arguments(data, directory, **settings)
        return start_module("launch.pretrain", *command, env=environment(compiled, devices))

    return started


def finish(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def last_state(directory, data, **settings):
    """The whole state in the last checkpoint, and its step."""
    config = shrunk_recipe.config(data, **settings)
    _, abstract = build.abstract_run(config, config.optimizer_config(1), sharding.make_mesh())
    with Checkpoints(directory) as checkpoints:
        return checkpoints.latest_step(), jax.device_get(checkpoints.restore(abstract))


def count_lines(directory):
    file = directory / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_run_killed_again_and_again_ends_as_one_never_stopped(start, data, tmp_path):
    settings = {"steps": 300, "warmup_steps": 30, "checkpoint__every": 20, "fsdp": 2}
    finish(start(tmp_path / "whole", 2, **settings))

    seed = time.time_ns()
    print(f"moments of seed {seed}")  # shown if the test fails
    draw = random.Random(seed)
    directory, killed_at = tmp_path / "killed", []
    # The first before anything is computed, the others after so many steps that none comes too late.
    steps = 0
    for number, kind in enumerate([signal.SIGKILL] * 4 + [signal.SIGINT]):
        process = start(directory, 2, **settings)
        if number:
            steps += draw.randint(1, 50)
            wait_until(lambda steps=steps: count_lines(directory) >= steps, seconds=120)
        else:
            time.sleep(draw.uniform(0, 2))
        process.send_signal(kind)
        _, err = process.communicate()
        assert process.returncode == (-signal.SIGKILL if kind == signal.SIGKILL else 130), err
        killed_at.append(count_lines(directory))
    assert re.fullmatch(
        r"pretrain: stopped by Ctrl-C with step \d+ saved; run the same command again to go on",
        err.splitlines()[-1],
    )
    assert sum(0 < lines < 300 for lines in killed_at) >= 3, killed_at
    out = finish(start(directory, 2, **settings))
    assert "going on    from step " in out

    step, state = last_state(directory, data, **settings)
    expected_step, expected = last_state(tmp_path / "whole", data, **settings)
    assert step == expected_step == 300
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    lines = lines_without_times(directory)
    assert [line["step"] for line in lines] == list(range(1, 301))
    assert lines == lines_without_times(tmp_path / "whole")


def test_a_run_goes_on_on_any_number_of_devices(start, data, tmp_path):
    """From one device to two, four and eight and back, with the state whole and split."""
    # With the recipe's epsilon Adam would make updates of the rounding of gradients that are nearly zero.
    settings = {"steps": 10, "checkpoint__keep": 10, "optimizer__epsilon": 1e-3}
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    finish(start(whole, 1, **settings))
    expected, expected_lines = last_state(whole, data, **settings)[1], lines_without_times(whole)
    shutil.copytree(whole, moved)
    for first, devices, fsdp in ((2, 2, 2), (4, 4, 1), (6, 8, 4), (8, 1, 1)):
        # As if killed before later checkpoints.
        for later in range(first + 2, 11, 2):
            shutil.rmtree(moved / f"checkpoints/{later}")
        out = finish(start(moved, devices, fsdp=fsdp, **settings))
        assert f"going on    from step {first} of 10" in out
        assert_trees_close(last_state(moved, data, **settings)[1].params, expected.params, 1e-5)
        lines = lines_without_times(moved)
        assert len(lines) == len(expected_lines) == 10
        for line, other in zip(lines, expected_lines):
            assert line.keys() == other.keys()
            for name, value in line.items():
                np.testing.assert_allclose(value, other[name], rtol=1e-5, err_msg=f"{devices}: {name}")
