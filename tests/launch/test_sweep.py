"""The command `launch.sweep`: mistakes are named in one line before anything is written."""

import subprocess
import sys

import pytest

GIVEN = ("--config=pretrain:mu,runlocal", "--config.data.sets=data")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--grid=size=T", *GIVEN[1:]], "--config is missing: name a recipe or a file"),
        ([*GIVEN, "--grid=sise=T,S"], "--grid=sise=T,S: there is no setting sise; the nearest is size"),
        ([*GIVEN, "--grid=batch=8,7"], "batch=7: loss.negatives = 'group:4': batch / accumulate, 7 clips"),
        ([*GIVEN, "--grid=seed=0,1", "--slurm=no/such/file"], "no/such/file cannot be written: there is no"),
        ([*GIVEN, "--grid=seed=0,00"], "seed=00 and seed=0 have the same settings"),
    ],
)
def test_mistakes(tmp_path, words, line):
    done = subprocess.run(
        [sys.executable, "-m", "launch.sweep", f"--root={tmp_path / 'study'}", *words],
        capture_output=True,
        text=True,
    )
    (found,) = done.stderr.splitlines()
    assert found.startswith(f"sweep: {line}")
    assert (done.returncode, done.stdout) == (1, "")
    assert list(tmp_path.iterdir()) == []
