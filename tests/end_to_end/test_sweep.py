"""A sweep as a user runs it: priced, killed, continued, with a run that fails, and branches bit for bit."""

import json
import signal

import pytest

from hicmae_jax.checkpoints.load import load_parameters
from hicmae_jax.studies import plan
from hicmae_jax.studies.sweep import command_of
from tests.support import shrunk_recipe
from tests.support.checkpoint_fixtures import assert_same_bits
from tests.support.processes import start_module, wait_until
from tests.support.several_hosts import environment

pytestmark = pytest.mark.slow


def test_a_sweep_is_killed_continued_and_ends_as_single_runs_do(compiled, tmp_path):
    data, root = shrunk_recipe.write_clips(tmp_path / "set"), tmp_path / "study"
    table = tmp_path / "runs.csv"
    table.write_text(f"name,seed,data.sets\ngood,0,{data}\nbad,1,{tmp_path / 'missing'}\n")
    words = [
        *(word for word in shrunk_recipe.arguments(data, "unused") if not word.startswith("--run=")),
        *(f"--root={root}", f"--table={table}", "--budgets=8,40", "--least_decay=2", "--retries=0"),
    ]

    def sweep(*more):
        return start_module("launch.sweep", *words, *more, env=environment(compiled, 1))

    priced = sweep("--dry_run")
    out, err = priced.communicate()
    assert priced.returncode == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:5]] == [
        *("good,steps=40", "good,steps=8", "bad,steps=40", "bad,steps=8")
    ]
    assert not root.exists()

    trunk = plan.directory_of(root, "good,steps=40")
    first = sweep()
    wait_until(lambda: (trunk / "checkpoints/6").exists() or first.poll() is not None)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate()
    assert first.returncode == 143, err
    assert "sweep: interrupted; run the same command again to go on" in err

    # One at a time, as before: on CPUs the rounding of sums depends on the number of cores.
    again = sweep()
    out, err = again.communicate()
    assert again.returncode == 1, out
    *problems, last = err.splitlines()[-3:]
    assert problems[0].startswith("bad,steps=40 failed: pretrain: ")
    assert "missing" in problems[0]
    assert problems[1] == "bad,steps=8 waits for bad,steps=40"
    assert last == "sweep: 2 of 4 runs are not finished; run the same command again to go on"
    assert json.loads((root / "attempts.json").read_text())["good,steps=8"]["state"] == "done"

    # A run of its own, of the length of the branch and with its settings, ends with the same bits.
    study = plan.read(root)
    branch = next(run for run in study.runs if run.name == "good,steps=8")
    assert branch.branch_step == 6
    _, _, module, *arguments = command_of(root, study, branch)
    alone = [word for word in arguments if not word.startswith(("--run=", "--branch_"))]
    process = start_module(module, *alone, f"--run={tmp_path / 'alone'}", env=environment(compiled, 1))
    out, err = process.communicate()
    assert process.returncode == 0, err
    directory = plan.directory_of(root, branch.name)
    assert_same_bits(load_parameters(tmp_path / "alone")[0], load_parameters(directory)[0])

    refused = sweep("--grid=seed=5")
    out, err = refused.communicate()
    assert refused.returncode == 1
    assert err.splitlines()[-1].startswith(f"sweep: {root} is a study with the run good,steps=40, which is")


def test_jobs_of_a_cluster_train_one_run_each(compiled, tmp_path):
    data, root = shrunk_recipe.write_clips(tmp_path / "set"), tmp_path / "study"
    words = [word for word in shrunk_recipe.arguments(data, "unused") if not word.startswith("--run=")]
    script = tmp_path / "submit.sh"
    given = environment(compiled, 1)
    written = start_module(
        *("launch.sweep", *words, f"--root={root}", "--grid=seed=0,1", f"--slurm={script}"), env=given
    )
    out, err = written.communicate()
    assert written.returncode == 0, err
    assert "runs=(seed=0 seed=1)" in script.read_text()
    for name, code, line in (
        ("seed=1", 0, ""),
        ("seed=1", 0, "finished    already: seed=1"),
        ("seed=2", 1, f"sweep: --only=seed=2: {root} has no such run"),
    ):
        job = start_module("launch.sweep", f"--root={root}", f"--only={name}", env=given)
        out, err = job.communicate()
        assert job.returncode == code, err
        assert line in out + err
    assert (plan.directory_of(root, "seed=1") / "checkpoints/6").exists()
    assert not plan.directory_of(root, "seed=0").exists()
