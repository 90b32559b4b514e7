"""Real runs that are stopped, or continued on other devices, end as runs that were never stopped."""

import re
import shutil
from signal import SIGINT, SIGKILL

import jax
import numpy as np
import pytest

from tests.support import shrunk_recipe
from tests.support.instrumented_pretrain import pause_file
from tests.support.processes import start_module, wait_until
from tests.support.real_runs import count_lines, last_state, lines_without_times
from tests.support.several_hosts import environment
from tests.support.trees import assert_trees_close

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return shrunk_recipe.write_clips(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def start(data, compiled):
    """(directory, devices, pause_after, settings) → a process that trains."""

    def started(directory, devices, pause_after=None, **settings):
        command = shrunk_recipe.arguments(data, directory, **settings)
        program = "launch.pretrain"
        if pause_after is not None:
            program = "tests.support.instrumented_pretrain"
            command.append(f"--pause_after={pause_after}")
        return start_module(program, *command, env=environment(compiled, devices))

    return started


def finish(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def test_a_run_killed_several_times_ends_as_one_never_stopped(start, data, tmp_path):
    settings = {"steps": 100, "warmup_steps": 10, "checkpoint__every": 20, "fsdp": 2}
    finish(start(tmp_path / "whole", 2, **settings))

    directory = tmp_path / "killed"
    process = start(directory, 2, **settings)
    wait_until((directory / "config.json").exists)  # before the first step
    process.kill()
    process.communicate()
    # Before there is a checkpoint, while one is saved, twice between two of them.
    for step, kind in ((17, SIGKILL), (40, SIGKILL), (55, SIGKILL), (78, SIGINT)):
        process = start(directory, 2, pause_after=step, **settings)
        wait_until(lambda process=process: pause_file(directory).exists() or process.poll() is not None)
        process.send_signal(kind)
        pause_file(directory).unlink(missing_ok=True)
        _, err = process.communicate()
        assert process.returncode == (-SIGKILL if kind == SIGKILL else 130), err
        assert count_lines(directory) == step or kind == SIGINT
    assert re.fullmatch(
        r"pretrain: stopped by Ctrl-C with step \d+ saved; run the same command again to go on",
        err.splitlines()[-1],
    )
    out = finish(start(directory, 2, **settings))
    assert "going on    from step " in out

    step, state = last_state(directory, data, **settings)
    expected_step, expected = last_state(tmp_path / "whole", data, **settings)
    assert step == expected_step == 100
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    lines = lines_without_times(directory)
    assert [line["step"] for line in lines] == list(range(1, 101))
    assert lines == lines_without_times(tmp_path / "whole")


def test_a_run_continues_on_any_number_of_devices(start, data, tmp_path):
    """From one device to two, four and eight and back, with the state whole and split."""
    # With the recipe's epsilon, Adam would turn the rounding errors of tiny gradients into large updates.
    settings = {"steps": 10, "checkpoint__keep": 10, "optimizer__epsilon": 1e-3}
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    finish(start(whole, 1, **settings))
    expected, expected_lines = last_state(whole, data, **settings)[1], lines_without_times(whole)
    shutil.copytree(whole, moved)
    for first, devices, fsdp in ((2, 2, 2), (4, 4, 1), (6, 8, 4), (8, 1, 1)):
        # Without the later checkpoints, as if killed before them.
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
