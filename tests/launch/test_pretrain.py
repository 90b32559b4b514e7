"""The command run as a process: mistakes that are possible only on the command line."""

import os
import subprocess
import sys

import pytest

from tests.support import shrunk_recipe


def command(*arguments, **environment):
    given = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"} | environment
    return subprocess.run(
        [sys.executable, "-m", "launch.pretrain", *arguments], capture_output=True, text=True, env=given
    )


@pytest.mark.parametrize(
    ("option", "changes", "environment", "message"),
    [
        ("--platform=cpu", {}, {}, "nowhere/dataset.json is missing"),
        ("--platform=cpu", {"batch": 7}, {}, "loss.negatives = 'group:2': batch / accumulate, 7 clips"),
        ("--branch_step=3", {}, {}, "--branch_step=3 goes with --branch_from=RUN"),
        ("--platform=tpu", {}, {}, "JAX finds no tpu devices here"),
        ("--noallow_changes", {}, {"JAX_PLATFORMS": "abacus"}, "JAX finds no abacus devices here"),
    ],
    ids=["data", "setting", "branch", "platform", "environment"],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, option, changes, environment, message):
    done = command(*shrunk_recipe.arguments("nowhere", tmp_path / "run", **changes), option, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("pretrain: ")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
