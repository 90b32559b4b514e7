"""Goodput: what a run has kept of its time, over kills, stops and restarts."""

import datetime
import json

import pytest

from hicmae_jax.studies.goodput import FINISHED, NO_WORD, RUNNING, goodput, of_run, read_events
from tests.support.made_up_study import BEGUN, moment


def at(seconds, event, **details):
    return {"time": BEGUN + datetime.timedelta(seconds=seconds), "event": event, **details}


def lines(*steps_and_paces):
    return [{"step": step, "time/step_seconds": pace} for step, pace in steps_and_paces]


LATER = BEGUN + datetime.timedelta(seconds=1000)
PACES = lines((50, 1.0), (100, 1.0), (150, 1.0), (200, 1.0))


def test_a_run_without_interruption():
    found = goodput([at(0, "started", step=0), at(250, "finished")], PACES, LATER)
    assert found.share == pytest.approx(200 / 250)
    assert [(part.kept_steps, part.end) for part in found.parts] == [(200, FINISHED)]


def test_a_killed_run_loses_the_steps_after_its_checkpoint_and_the_wait():
    events = [
        at(0, "started", step=0),
        at(80, "slow", line="a step took 9 s"),
        at(200, "started", step=100),  # killed between; the checkpoint was of step 100
        at(320, "finished"),
    ]
    found = goodput(events, PACES, LATER)
    assert [(part.seconds, part.kept_steps, part.end) for part in found.parts] == [
        (200, 100, NO_WORD),
        (120, 100, FINISHED),
    ]
    assert found.share == pytest.approx(200 / 320)


def test_a_stopped_run_loses_the_wait_for_the_next_start():
    stopped = at(110, "stopped", line="Stopped: SIGTERM")
    events = [at(0, "started", step=0), stopped, at(400, "started", step=100), at(500, "finished")]
    found = goodput(events, PACES, LATER)
    assert [part.end for part in found.parts] == ["Stopped: SIGTERM", FINISHED]
    assert found.share == pytest.approx(200 / 500)


def test_the_time_after_a_finished_run_does_not_count():
    events = [
        *(at(0, "started", step=0), at(125, "finished")),
        *(at(900_000, "started", step=100), at(900_125, "finished")),
    ]
    assert goodput(events, PACES, LATER).share == pytest.approx(200 / 250)


def test_each_part_has_its_own_pace():
    events = [at(0, "started", step=0), at(400, "started", step=100), at(500, "finished")]
    found = goodput(events, lines((50, 2.0), (100, 2.0), (150, 0.5), (200, 0.5)), LATER)
    assert [part.progress for part in found.parts] == [200, 50]


def test_a_run_that_has_not_ended_reaches_to_its_last_line():
    found = goodput([at(0, "started", step=0)], PACES, BEGUN + datetime.timedelta(seconds=400))
    assert (found.seconds, found.share, found.parts[0].end) == (400, 0.5, RUNNING)


def test_a_run_that_has_not_measured_a_step_has_no_share():
    found = goodput([at(0, "started", step=0), at(9, "stopped", line="x")], [{"step": 1}], LATER)
    assert found.share is None
    assert goodput([at(0, "damaged checkpoint", line="x")], [], LATER) is None


def test_a_branch_counts_its_own_steps():
    events = [at(0, "branched", line="from x"), at(0, "started", step=150), at(100, "finished")]
    assert goodput(events, PACES, LATER).share == pytest.approx(0.5)


def test_half_a_line_of_a_killed_process_does_not_count(tmp_path):
    whole = {"time": moment(0), "event": "started", "step": 0}
    (tmp_path / "events.jsonl").write_text(json.dumps(whole) + '\n{"time": "2026-01\n[3]\n{"x": 1}\n')
    assert [event["event"] for event in read_events(tmp_path)] == ["started"]
    assert read_events(tmp_path / "none") == []
    assert of_run(tmp_path / "none", []) is None
