"""The plan of a study: kept in its directory, continued, and not mixed with another study."""

import dataclasses

import pytest

from hicmae_jax.studies import attempts, plan
from hicmae_jax.studies.plan import PlannedRun, Study

CONFIG = {"config": "pretrain:mu", "data.sets": "data"}
LONG = PlannedRun("long", {"steps": "8"}, 8)
SHORT = PlannedRun("short", {"steps": "4"}, 4, "branch", "long", 3, "its decay has 1 steps, fewer than 2")


def test_a_plan_is_read_as_it_was_written(tmp_path):
    study = Study((LONG, SHORT), CONFIG)
    plan.write(tmp_path / "study", study)
    assert plan.read(tmp_path / "study") == study
    assert (LONG.new_steps, SHORT.new_steps) == (8, 1)


def test_a_study_may_grow_but_not_change(tmp_path):
    plan.write(tmp_path, Study((LONG,), CONFIG))
    plan.write(tmp_path, Study((LONG, SHORT), CONFIG))
    changed = dataclasses.replace(LONG, settings={"steps": "9"})
    for study, line in (
        (Study((LONG,), CONFIG), "a study with the run short, which is not planned now"),
        (Study((changed, SHORT), CONFIG), "long has other settings .*'steps': '8'.* give another --root"),
        (Study((LONG, SHORT), CONFIG | {"seed": "1"}), "other settings .seed was None, is '1'"),
    ):
        with pytest.raises(ValueError, match=line):
            plan.write(tmp_path, study)
    assert plan.read(tmp_path) == Study((LONG, SHORT), CONFIG)


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"is not empty and has no study\.json"):
        plan.write(tmp_path, Study((LONG,), CONFIG))
    with pytest.raises(ValueError, match=r"is no study: it has no study\.json"):
        plan.read(tmp_path)
    (tmp_path / plan.FILE).write_text('{"format": 1}')
    with pytest.raises(ValueError, match="is not the plan of a study"):
        plan.read(tmp_path)


@pytest.mark.parametrize(
    ("runs", "line"),
    [
        ((), "the study has no run"),
        ((LONG, dataclasses.replace(LONG, settings={})), "two runs are named long"),
        ((LONG, dataclasses.replace(LONG, name="other")), "other and long have the same settings"),
        ((SHORT, LONG), "short branches from long, which does not come before it"),
    ],
)
def test_runs_that_do_not_go_together(runs, line):
    with pytest.raises(ValueError, match=line):
        Study(runs, CONFIG)


def test_a_run_of_another_study_in_the_directory_is_named(tmp_path):
    study = Study((LONG,), CONFIG)
    plan.directory_of(tmp_path, "long").mkdir(parents=True)
    attempts.check_runs_are_planned(tmp_path, study)
    plan.directory_of(tmp_path, "strange").mkdir()
    with pytest.raises(ValueError, match="runs/strange is no run of this study: move it elsewhere"):
        attempts.check_runs_are_planned(tmp_path, study)


def test_a_run_is_finished_when_its_last_event_says_so(tmp_path):
    def write(*lines):
        (tmp_path / "events.jsonl").write_text("".join(lines))

    started, stopped, finished = (f'{{"event": "{name}"}}\n' for name in ("started", "stopped", "finished"))
    assert not attempts.is_finished(tmp_path)
    for lines, expected in (
        ([started], False),
        ([started, stopped, started, finished], True),
        # A longer run that goes on is not finished, and half a line is of a process that was killed.
        ([started, finished, started], False),
        ([started, finished, '{"event": "fi'], True),
    ):
        write(*lines)
        assert attempts.is_finished(tmp_path) is expected
