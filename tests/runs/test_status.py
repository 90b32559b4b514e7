"""What `hicmae status` tells of a run, from made-up directories on a disk and in a bucket."""

import json
import re
import subprocess
import sys
import time
import types

import pytest
from etils import epath

from hicmae_jax.logs import goodput
from hicmae_jax.runs import run_state, status, status_text
from tests.support import made_up_run
from tests.support.bucket_server import served
from tests.support.made_up_run import TOTAL, files, no_process, spent, write
from tests.support.paths import ROOT
from tests.support.processes import HANG


@pytest.fixture(autouse=True)
def naps(monkeypatch):
    """The seconds that were to be waited; nothing waits."""
    found = []
    monkeypatch.setattr(run_state, "time", types.SimpleNamespace(time=time.time, sleep=found.append))
    return found


def read(directory, content):
    return status.read(epath.Path(write(directory, content)))


# --- The state ----------------------------------------------------------------------------------------------


def test_a_run_with_a_new_heartbeat_is_running(tmp_path, naps):
    found = read(tmp_path, files())
    assert (found.state, found.why) == (run_state.RUNNING, "by the time of its heartbeat")
    assert (found.step, found.total_steps, naps) == (120, TOTAL, [])


STOP = {"event": "stopped", "step": 120, "spent": spent(120), "line": "Stopped: stopped by SIGTERM with …"}
DONE = {"event": "finished", "step": TOTAL, "spent": spent(TOTAL)}
STOPPED, GONE, OLD = (
    {"stage": "stopped"},
    {"identity": no_process()},
    {"identity": "another/machine/1/1", "ago": 100.0},
)


@pytest.mark.parametrize(
    ("events", "options", "state", "why"),
    [
        ([DONE], {"beats": [], "held": False}, "finished", ""),
        ([STOP], {"beats": [STOPPED], "held": False}, "stopped", "stopped by SIGTERM with …"),
        ([], {"beats": [STOPPED]}, "stopped", "with an error before the first step"),
        ([], {"beats": [GONE]}, "killed", "its process has ended without a word"),
        ([], {"beats": [OLD]}, "silent", "no heartbeat for 100 s: it was killed or hangs"),
        ([], {"beats": [OLD], "held": False}, "killed", "no process holds its directory"),
        ([], {"beats": []}, "silent", "process 1 on host .* writes no heartbeat"),
        ([], {"beats": [], "held": False}, "killed", "no process holds its directory"),
        ([], {"beats": [{"began": "before"}]}, "silent", "process 1 on host .* writes no heartbeat"),
        ([{"event": "branched"}], {"beats": []}, "starting", "process 1 on host .* has begun .* ago"),
    ],
)
def test_the_state_of_a_run(tmp_path, events, options, state, why):
    found = read(tmp_path, files(*events, **options))
    assert found.state == state
    assert re.match(why, found.why), found.why
    assert found.seconds_left is None


@pytest.mark.parametrize("ago", [300.0, -300.0])
def test_a_heartbeat_by_another_clock_is_read_twice(tmp_path, monkeypatch, naps, ago):
    write(tmp_path, files(beats=[{"ago": ago, "identity": "another/machine/1/1"}]))

    def beat_again(seconds):
        path = tmp_path / "hosts" / "0.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"beat": 10}))

    monkeypatch.setattr(run_state.time, "sleep", beat_again)
    found = status.read(epath.Path(tmp_path))
    assert found.state == run_state.RUNNING
    assert "read twice" in found.why


def test_a_heartbeat_of_yesterday_is_not_read_twice(tmp_path, naps):
    found = read(tmp_path, files(beats=[{"ago": 86_400.0, "identity": "another/machine/1/1"}]))
    assert (found.state, naps) == (run_state.SILENT, [])


def test_a_run_that_has_not_begun(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    found = status.read(epath.Path(tmp_path))
    assert (found.state, found.step, found.goodput) == (run_state.NOT_BEGUN, None, None)
    assert status_text.text(found).splitlines()[1] == "state       not begun: its events tell of no start"


# --- Figures ------------------------------------------------------------------------------------------------


def test_loss_pace_and_the_time_left(tmp_path):
    found = read(tmp_path, files())
    assert (found.loss, found.loss_step) == (pytest.approx(2.0 - 0.118), 118)
    assert (found.step_seconds, found.clips_per_second, found.mfu) == (0.1, 80.0, 0.41)
    # 120 steps took 12 s, their input 1.2 s, saves and evaluations 4 s.
    assert found.seconds_a_step == pytest.approx(17.2 / 120)
    assert found.seconds_left == pytest.approx((TOTAL - 120) * 17.2 / 120)


def test_the_time_left_of_a_run_that_has_just_begun_is_by_its_pace(tmp_path):
    found = read(tmp_path, files(beats=[{"step": 5}], lines=5))
    assert found.seconds_a_step is None
    assert found.seconds_left == pytest.approx((TOTAL - 5) * 0.1)
    assert "without evaluations and saves" in status_text.text(found)


def test_checkpoints_and_the_best_of_them(tmp_path):
    found = read(tmp_path, files(checkpoints={100: 3.2, 110: 2.9, 118: 3.0})).saved
    assert (found.steps, found.bytes) == ([100, 110, 118], 2_500_000)
    assert 0 <= found.age < 60
    assert (found.best_step, found.best_score, found.best_by) == (110, 2.9, "held_out/total")


def test_a_checkpoint_without_its_seal_is_damaged(tmp_path):
    write(tmp_path, files())
    (tmp_path / "checkpoints/100/checksums.json").unlink()
    found = status.read(epath.Path(tmp_path))
    assert found.saved.bytes is None
    assert "step 100, damaged, 1 kept" in status_text.text(found)


def test_goodput_is_that_of_the_account(tmp_path):
    found = read(tmp_path, files())
    assert sum(found.goodput.split.values()) == found.goodput.seconds == sum(spent(120).values())
    assert found.goodput.split["training"] == 12.0


def test_an_older_run_has_a_status_too(tmp_path):
    content = files(beats=[], lines=20)
    content["events.jsonl"] = (
        json.dumps({"time": made_up_run.moment(50), "event": "started", "step": 0})
        + "\n"
        + json.dumps({"time": made_up_run.moment(0), "event": "finished"})
        + "\n"
    ).encode()
    content["metrics.jsonl"] = b'{"step": 9, "loss/total": "NaN", "time/step_seconds": 2.0}\n'
    found = read(tmp_path, content)
    assert (found.state, found.step, found.total_steps) == ("finished", 9, None)
    assert found.goodput.share == pytest.approx(18 / 50, rel=1e-3)
    printed = status_text.text(found)
    assert "loss        nan at step 9" in printed
    assert "an older start kept no account" in printed
    (told,) = json.loads(status_text.as_json([found]))
    assert told["loss"] == "nan"


# --- Text and JSON ------------------------------------------------------------------------------------------


TEXT = """
run         DIRECTORY
state       running: by the time of its heartbeat
step        120 of 400 (30.0%)
loss        1.8820 at step 118
pace        0.1 s a step, 80 clips a second, MFU 41.0%
time left   40 s, at 0.143 s a step, with evaluations and saves, since this start
checkpoint  step 100, 0 s ago, 2.5 MB, 1 kept
best        step 100, held_out/total 3.25
goodput     32.3% of 37 s, 1 start
            training     12 s  32.3%  steps that are kept
            starting     20 s  53.8%  libraries, data, compilation
            input       1.2 s   3.2%  waiting for batches
            saving      1.0 s   2.7%  waiting for checkpoints
            evaluating  3.0 s   8.1%  evaluations

host  machine  doing                    for    after step  heartbeat
0     node3    waiting for the devices  0.2 s  120         4 s ago
1     node4    waiting for input        75 s   118         45 s ago: silent
"""


def test_the_text_of_a_run_on_two_hosts(tmp_path):
    skipped = {"event": "skipped update", "line": "step 33: …", "step": 33}
    beats = [{}, {"step": 118, "stage": "input", "seconds": 75.0, "ago": 45.0, "host": "node4"}]
    found = read(tmp_path, files(*[skipped] * 7, beats=beats, checkpoints={100: 3.25}))
    head, _, rest = status_text.text(found).partition("\nevents, UTC; 2 before these\n")
    assert rest.count("skipped update  step 33: …") == status_text.EVENTS_SHOWN == len(rest.splitlines())
    shown = re.sub(r"(\d)\.\d s ago", r"\1 s ago", head)
    assert shown.splitlines() == TEXT.replace("DIRECTORY", str(tmp_path)).strip().splitlines()


def test_the_folds_of_a_run_have_a_line_each(tmp_path):
    write(tmp_path / "fold-1", files(DONE, beats=[], held=False, lines=TOTAL, checkpoints={400: 0.7}))
    write(tmp_path / "fold-2", files())
    (tmp_path / "fold-10").mkdir()
    (tmp_path / "table.md").write_text("…")
    runs = status.find_runs(epath.Path(tmp_path))
    assert [run.name for run in runs] == ["fold-1", "fold-2", "fold-10"]
    head, first, second, third = status_text.folds_text([status.read(run) for run in runs]).splitlines()
    assert head.split()[:4] == ["fold", "state", "step", "loss"]
    assert re.match(
        r"fold-1 +finished +400 of 400 \(100\.0%\) +1\.6000 +step 400, held_out/total 0\.7 ", first
    )
    assert re.match(r"fold-2 +running +120 of 400 \(30\.0%\) +1\.8820 +– +40 s ", second)
    assert re.match(r"fold-10 +not begun +– +– +– +– +–$", third)


def test_json_has_all_for_programs(tmp_path):
    (found,) = json.loads(status_text.as_json([read(tmp_path, files({"event": "slow", "line": "x"}))]))
    assert (found["state"], found["step"], found["events"][0]["event"]) == ("running", 120, "slow")
    assert found["hosts"][0]["stage"] == "device"
    assert set(found["goodput"]["split"]) == set(goodput.SPLIT)
    assert found["goodput"]["starts"][0]["kept_steps"] == 120
    assert found["saved"]["steps"] == [100]


# --- The command --------------------------------------------------------------------------------------------


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none is not the directory of a run: there is nothing"):
        status.find_runs(epath.Path(tmp_path / "none"))
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"it has neither events\.jsonl nor checkpoints"):
        status.find_runs(epath.Path(tmp_path))


def call(*words):
    return subprocess.run(
        [sys.executable, "-m", "launch", "status", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG,
    )


def test_the_command_prints_and_ends_with_0_or_1(tmp_path):
    done = call(f"--run={write(tmp_path / 'run', files())}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "step        120 of 400" in done.stdout
    refused = call(f"--run={tmp_path}/none")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"status: {tmp_path}/none is not the directory of a run")
    assert refused.stderr.count("\n") == 1


def test_a_run_in_a_bucket_has_the_same_status(tmp_path):
    content = files(beats=[{}, {"host": "node4"}], checkpoints={100: 3.25, 110: 3.5})
    on_disk = read(tmp_path, content)
    with served() as server:
        for name, text in content.items():
            server.put(f"bucket/runs/b/{name}", text)
        before = dict(server.objects)
        (run,) = status.find_runs(epath.Path("gs://bucket/runs/b"))
        found = status.read(run)
        with pytest.raises(ValueError, match="gs://bucket/other is not the directory of a run"):
            status.find_runs(epath.Path("gs://bucket/other"))
        assert server.objects == before
    assert 0 <= found.saved.age < 60
    ours, theirs = (json.loads(status_text.as_json([one]))[0] for one in (found, on_disk))
    for told in (ours, theirs):
        del told["directory"], told["saved"]["age"]
        for host in told["hosts"]:
            del host["age"]
    assert ours == theirs
    assert [host.machine for host in found.hosts] == ["node3", "node4"]
