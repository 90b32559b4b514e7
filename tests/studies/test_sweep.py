"""A sweep of small commands: each run once, failures retried, branches after trunks, stops and restarts."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
import yaml

from hicmae_jax.studies import cluster_files, plan
from hicmae_jax.studies.attempts import BEGUN, DONE, FAILED, Attempts
from hicmae_jax.studies.plan import PlannedRun, Study
from hicmae_jax.studies.sweep import Sweep, command_of
from launch import template
from tests.support.paths import ROOT
from tests.support.processes import wait_until

# Stands for a run: it does what the setting `does` says and writes events as a run does.
RUN = """
    import json, os, pathlib, signal, sys, time
    directory, does = pathlib.Path(sys.argv[1]), sys.argv[2]
    directory.mkdir(parents=True, exist_ok=True)
    def event(name):
        with (directory / "events.jsonl").open("a") as file:
            file.write(json.dumps({"event": name}) + "\\n")
    def stop(*_):
        event("stopped")
        sys.exit(75)
    signal.signal(signal.SIGTERM, stop)
    event("started")
    times = (directory / "events.jsonl").read_text().count("started")
    if does == "fail" or does == "fail once" and times == 1:
        sys.exit("out of luck")
    while does == "wait" and not (directory / "go").exists():
        time.sleep(0.02)
    (directory / "metrics.jsonl").write_text(json.dumps({"step": 10}) + "\\n")
    event("finished")
    time.sleep(0.3 * (does == "linger"))
"""


def command(root, study, run):
    return (
        sys.executable,
        "-c",
        textwrap.dedent(RUN),
        str(plan.directory_of(root, run.name)),
        run.settings["does"],
    )


def planned(name, does, **more):
    return PlannedRun(name, {"does": does, "name": name}, 10, **more)


def sweep_of(root, *runs, jobs=2, retries=1):
    study = Study(runs, {})
    plan.write(root, study)
    return Sweep(root, study, jobs, retries, {run.name: 1.0 for run in runs}, command)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("hicmae_jax.studies.sweep.POLL_SECONDS", 0.02)


def starts(root, name):
    return (plan.directory_of(root, name) / "events.jsonl").read_text().count("started")


def test_a_run_whose_process_has_not_ended_is_counted_once(tmp_path, monkeypatch):
    shown, show = [], Sweep._show

    def spy(sweep, bar):
        show(sweep, bar)
        shown.append(bar.n)

    monkeypatch.setattr(Sweep, "_show", spy)
    sweep_of(tmp_path, planned("a", "linger"), planned("b", "linger"), jobs=1).run()
    assert max(shown) == 2
    assert {0, 1, 2} == set(shown)


def test_a_failing_run_does_not_stop_the_others(tmp_path, capfd):
    runs = [planned("bad", "fail"), planned("unlucky", "fail once"), planned("good", "end")]
    sweep = sweep_of(tmp_path, *runs)
    sweep.run()
    assert sweep.finished() == ["unlucky", "good"]
    log = tmp_path / "logs" / "bad.txt"
    assert sweep.problems() == [f"bad failed: out of luck; see {log}"]
    assert [starts(tmp_path, run.name) for run in runs] == [2, 2, 1]
    found = Attempts(tmp_path)
    assert [found[run.name].state for run in runs] == [FAILED, DONE, DONE]
    assert (found["bad"].attempts, found["bad"].code) == (2, 1)
    printed = capfd.readouterr().out
    assert "failed      bad, exit code 1, tried again: out of luck" in printed
    assert "failed      bad, exit code 1, given up: out of luck" in printed


def test_the_next_call_skips_what_is_finished_and_tries_again_what_has_failed(tmp_path):
    runs = [planned("unlucky", "fail once"), planned("good", "end")]
    first = sweep_of(tmp_path, *runs, retries=0)
    first.run()
    assert first.finished() == ["good"]
    again = sweep_of(tmp_path, *runs, retries=0)
    again.run()
    assert again.finished() == ["unlucky", "good"]
    assert again.problems() == []
    assert [starts(tmp_path, run.name) for run in runs] == [2, 1]


def test_branches_wait_for_their_trunk(tmp_path):
    trunk = planned("trunk", "end")
    branch = planned("branch", "end", kind="branch", trunk="trunk", branch_step=5)
    sweep = sweep_of(tmp_path, trunk, branch)
    sweep.run()
    times = [
        (plan.directory_of(tmp_path, name) / "events.jsonl").stat().st_mtime_ns
        for name in ("trunk", "branch")
    ]
    assert times == sorted(times)
    assert sweep.finished() == ["trunk", "branch"]


def test_branches_of_a_failed_trunk_are_reported(tmp_path):
    trunk = planned("trunk", "fail")
    branch = planned("branch", "end", kind="branch", trunk="trunk", branch_step=5)
    sweep = sweep_of(tmp_path, trunk, branch, retries=0)
    sweep.run()
    assert sweep.problems()[1] == "branch waits for trunk"
    assert not plan.directory_of(tmp_path, "branch").exists()


def test_a_stopped_sweep_lets_its_runs_save_and_goes_on_later(tmp_path):
    runs = [planned("a", "wait"), planned("b", "wait"), planned("c", "end")]
    sweep = sweep_of(tmp_path, *runs)

    def stop():
        wait_until(lambda: all((plan.directory_of(tmp_path, n) / "events.jsonl").exists() for n in "ab"))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    # A shell that starts the tests in the background lets them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            sweep.run()
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    for name in "ab":
        assert "stopped" in (plan.directory_of(tmp_path, name) / "events.jsonl").read_text()
        assert Attempts(tmp_path)[name].state == BEGUN
        assert Attempts(tmp_path)[name].attempts == 0
        (plan.directory_of(tmp_path, name) / "go").touch()
    again = sweep_of(tmp_path, *runs)
    again.run()
    assert again.finished() == ["a", "b", "c"]
    assert [starts(tmp_path, run.name) for run in runs] == [2, 2, 1]


def test_processes_side_by_side_share_the_cores(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core cannot be shared")
    runs = [planned("a", "wait"), planned("b", "wait")]
    sweep = sweep_of(tmp_path, *runs)
    sweep._start()
    given = [os.sched_getaffinity(one.process.pid) for one in sweep._running]
    for run in runs:
        plan.directory_of(tmp_path, run.name).mkdir(parents=True, exist_ok=True)
        (plan.directory_of(tmp_path, run.name) / "go").touch()
    sweep.run()
    assert not given[0] & given[1]
    assert given[0] | given[1] == set(cores)


def test_the_command_of_a_run():
    study = Study(
        (PlannedRun("a", {"size": "T"}, 10), PlannedRun("b", {"size": "S"}, 5, "branch", "a", 4)),
        {"config": "pretrain:B", "data.sets": "my data"},
    )
    first, branch = (command_of(ROOT / "s", study, run)[2:] for run in study.runs)
    assert first == (
        "launch.pretrain",
        "--config=pretrain:B",
        "--config.data.sets=my data",
        "--config.size=T",
        f"--run={ROOT}/s/runs/a",
    )
    assert branch[-2:] == (f"--branch_from={ROOT}/s/runs/a", "--branch_step=4")


STUDY = Study(
    (PlannedRun("size=T", {"size": "T"}, 10), PlannedRun("size=T,steps=5", {}, 5, "branch", "size=T", 4)),
    {"config": "pretrain:B"},
)


def test_the_script_for_slurm_submits_every_run(tmp_path):
    script = tmp_path / "submit.sh"
    script.write_text(cluster_files.slurm(tmp_path / "my study", STUDY, template.read("slurm.sh")))
    stand_in = tmp_path / "sbatch"
    # Prints a number as sbatch does, and keeps its arguments and the script of the job.
    stand_in.write_text(
        f'#!/bin/bash\nn=$(ls {tmp_path}/job* 2>/dev/null | wc -l)\necho "# $@" > {tmp_path}/job$n\n'
        f"cat >> {tmp_path}/job$n\necho $((n + 7))\n"
    )
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["first:", "7", "branches:", "8"]
    first, branches = ((tmp_path / f"job{n}").read_text() for n in (0, 1))
    assert "#SBATCH --array=0-0" in first
    assert "runs=(size=T)" in first
    assert "--dependency=afterok:7" in branches
    assert "runs=(size=T,steps=5)" in branches
    for number in (0, 1):
        subprocess.run(["bash", "-n", str(tmp_path / f"job{number}")], check=True)


@pytest.mark.parametrize(("name", "shared"), [("gke_gpu.yaml", 3), ("gke_tpu.yaml", 1)])
def test_a_jobset_of_each_run_is_made_from_the_template_of_one(tmp_path, name, shared):
    documents = list(yaml.safe_load_all(cluster_files.jobsets(tmp_path, STUDY, template.read(name))))
    assert "JobSet" not in [one["kind"] for one in documents[:shared]]
    first, branch = documents[shared:]
    assert [one["metadata"]["name"] for one in (first, branch)] == ["r0-size-t", "r1-size-t-steps-5"]
    assert branch["metadata"]["annotations"]["run"] == "size=T,steps=5"
    pod = branch["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    only = ["--only=size=T,steps=5", "--distributed"]
    assert container["command"] == ["hicmae", "sweep", f"--root={tmp_path}", *only]
    assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"] == "study"
    # A branch begins again and again while its trunk trains.
    restarts = [one["spec"]["failurePolicy"]["maxRestarts"] for one in (first, branch)]
    assert restarts == [100, 100_000]


def test_templates_without_marks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the template marks 0 commands; it must mark one"):
        cluster_files.slurm(tmp_path, STUDY, "#!/usr/bin/env bash\nsrun true\n")
