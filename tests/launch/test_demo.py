"""The demo: its criteria fail when they should, and it resumes after an interruption."""

import dataclasses
import json
import os
import signal
import sys
import textwrap

import numpy as np
import pytest

from hicmae_jax.evaluation.fold_table import FoldResult
from hicmae_jax.runs.in_use import Hold
from hicmae_jax.studies import stages
from hicmae_jax.studies.stages import StageError
from launch.demo import __main__ as demo
from launch.demo import criteria, emotions
from launch.demo.killed_training import KilledTraining
from tests.support.corpus_fixtures import tree
from tests.support.paths import ROOT
from tests.support.processes import descendants, is_alive, start_module, wait_until, workers

# --- Criteria -----------------------------------------------------------------------------------------------


def scores(recall=0.25, low=0.17, clips=72, trained=(0.6, 0.8), early=0.9):
    def at(recall, low):
        of = {"recall": recall, "low": low, "high": recall + 0.1, "chance": 5 / clips}
        return {"mean": {"recall@5": of}}

    errors = {"trained": trained, "untrained": (0.8, 1.4), "zero prediction": (0.7, 1.0)}
    return {
        "clips": clips,
        "reconstruction": {name: {"video": v, "audio": a, "total": v + a} for name, (v, a) in errors.items()},
        "retrieval": {"trained": {"layer 2": at(early, early), "layer 10": at(recall, low)}},
    }


LOSSES = {5: 3.0, 10: 2.9, 15: 2.8, 20: 2.7}


def resumed(said="going on    from step 10 of 20", again=LOSSES, checkpoint=10):
    killed = {"step": 15, "checkpoint": checkpoint, "loss": {"15": LOSSES[15]}}
    lines = [{"step": step, "loss/total": loss} for step, loss in again.items()]
    lines.append({"step": 20, "held_out/total": 2.6})
    return criteria.resumption(killed, ["size  mu", said], lines, log_every=5, total_steps=20)


SHARES = {"model.pth": {"video": 0.04, "loss total": 0.001}}


def failing(scores=scores(), resumed=resumed(), shares=SHARES):  # noqa: B008 - none is changed
    return [of.name for of in criteria.criteria(scores, resumed, shares) if not of.holds]


def test_all_criteria_hold_for_a_model_that_learned_and_a_run_that_resumed():
    assert failing() == []


@pytest.mark.parametrize(
    "of",
    [
        {"recall": 0.13},  # less than twice chance
        {"low": 5 / 72},  # the interval touches chance
        {"low": 0.02},
        {"clips": 63, "recall": 0.9, "low": 0.8},  # too few clips for a judgement
    ],
)
def test_retrieval_near_chance_fails_even_if_an_earlier_layer_is_good(of):
    assert failing(scores=scores(**of)) == ["recall@5, layer 10"]


@pytest.mark.parametrize(
    ("trained", "names"),
    [
        ((0.71, 0.8), ["masked video error"]),  # better than the untrained model only
        ((0.7, 0.8), ["masked video error"]),
        ((0.6, 1.2), ["masked audio error"]),
        ((0.9, 1.5), ["masked video error", "masked audio error"]),
        ((float("nan"), 0.8), ["masked video error"]),
    ],
)
def test_reconstruction_no_better_than_a_baseline_fails(trained, names):
    assert failing(scores=scores(trained=trained)) == names


@pytest.mark.parametrize(
    "of",
    [
        {"said": "going on    from step 5 of 20"},  # an older checkpoint
        {"said": "steps       20 of 32 clips"},  # the run started from the beginning
        {"said": "going on    from step 0 of 20", "checkpoint": 0},  # there was no checkpoint to resume from
        {"again": LOSSES | {15: 2.9}},  # other batches
        {"again": {5: 3.0, 15: 2.8, 20: 2.7}},  # a step was lost
        {"again": {5: 3.0, 10: 2.9, 15: float("nan"), 20: 2.7}},
    ],
)
def test_resuming_at_another_step_or_with_other_losses_fails(of):
    assert failing(resumed=resumed(**of)) == ["killed and resumed"]


def test_a_step_that_is_logged_twice_fails():
    lines = [{"step": step, "loss/total": LOSSES[step]} for step in (5, 10, 15, 15, 20)]
    killed = {"step": 15, "checkpoint": 10, "loss": {"15": LOSSES[15]}}
    said = ["going on    from step 10 of 20"]
    assert failing(resumed=criteria.resumption(killed, said, lines, 5, 20)) == ["killed and resumed"]


def test_weights_with_which_pytorch_differs_fail():
    printed = [
        "compared  with PyTorch; largest",
        "  loss total   0.0010",
        "  video  1.2000",
        "wrote     a.pth: 3 tensors",
    ]
    shares = criteria.torch_shares(printed)
    assert shares == {"loss total": 0.001, "video": 1.2}
    assert failing(shares={"a.pth": shares}) == ["a.pth in PyTorch"]
    assert failing(shares={"a.pth": {"audio": 0.1, "video": float("nan")}}) == ["a.pth in PyTorch"]
    with pytest.raises(ValueError, match="no comparison"):
        criteria.torch_shares(printed[-1:])


def test_the_page_marks_the_criteria_that_do_not_hold():
    found = criteria.criteria(scores(low=0.01), resumed(), SHARES)
    page = criteria.page(found, {"train": 61.4, "score": 9.0}, {"pictures": ["a.png", "b.png"]})
    assert "train                         61 s" in page
    assert "in all" in page
    assert "in all                        70 s" in page
    assert [line.split()[:3] for line in page.splitlines() if " NO " in line] == [
        ["recall@5,", "layer", "10"]
    ]


def test_the_summary_lists_every_setting_that_the_demo_changes():
    changes = demo.changes()
    assert changes["batch"]["recipe"] == 160
    assert {"steps", "model.image_size"} <= changes.keys()
    assert all(of["recipe"] != of["demo"] for of in changes.values())


# --- Emotions -----------------------------------------------------------------------------------------------


def recognition(right, right_of_scratch=1):
    """Of 12 speakers who show each of 6 emotions once; a model is right about the first `right` emotions."""
    true = np.tile(np.arange(6), 12)
    units = tuple(f"s{number // 6:02d}" for number in range(72))
    names = tuple(map(str, range(72)))

    def result(right):
        return FoldResult(1, names, units, true, np.eye(6)[np.where(true < right, true, 0)])

    return emotions.compare(result(right), result(right_of_scratch))


def test_emotions_above_chance_pass_and_a_model_that_always_says_the_same_fails():
    assert emotions.criterion(recognition(3)).holds
    at_chance = emotions.criterion(recognition(1))
    assert not at_chance.holds
    assert at_chance.measured == "UAR 16.7% (16.7%–16.7%) of 72 clips; chance 16.7%"


def test_both_models_stand_side_by_side_with_the_matrix_of_the_pre_trained_one():
    page = emotions.page(recognition(3))
    assert "emotions of 12 speakers never seen" in page
    assert "  pre-trained      50.0 %  (50.0 … 50.0)" in page
    assert "  from scratch     16.7 %  (16.7 … 16.7)" in page
    assert "  difference      +33.3    (+33.3 … +33.3)\n" in page
    assert page.splitlines()[-2:] == [
        "  NEU       12     0     0     0     0     0",
        "  SAD       12     0     0     0     0     0",
    ]
    assert "too close to tell" in emotions.page(recognition(2, 2))


def test_emotions_of_videos_stand_beside_what_they_show(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/labels.csv").write_text("clip,emotion\ns0_1,SAD\ns0_2,ANG\n")
    printed = [
        "model     weights",
        "  s0_1.mp4: SAD 0.58, DIS 0.11",
        "  s0_2.mp4: HAP 0.43, ANG 0.3",
        "wrote  x",
    ]
    page = emotions.page_of_videos(tmp_path, printed).splitlines()
    assert page[2:] == [
        "  s0_1.mp4: SAD 0.58, DIS 0.11; shown SAD",
        "  s0_2.mp4: HAP 0.43, ANG 0.3; shown ANG",
    ]


def test_the_summary_of_emotions_is_json():
    found = json.loads(json.dumps(emotions.summary(recognition(6))))
    assert found["models"]["pre-trained"]["UAR"] == 100
    assert found["models"]["from scratch"]["confusion"][5] == [12, 0, 0, 0, 0, 0]


def test_models_tested_on_different_clips_are_not_compared():
    first = FoldResult(1, ("a", "b"), ("x", "y"), np.array([0, 1]), np.eye(6)[:2])
    other = dataclasses.replace(first, names=("a", "c"))
    with pytest.raises(ValueError, match="different clips"):
        emotions.compare(first, other)


# --- Commands -----------------------------------------------------------------------------------------------


def python(source, *arguments):
    return (sys.executable, "-c", textwrap.dedent(source), *map(str, arguments))


def killed_training(source, run, kill_in, *arguments):
    command = python(source, run, *arguments)
    return KilledTraining("train", command, run_directory=run, kill_in=kill_in)


# Logs a step every 0.01 s, and has a checkpoint at every tenth.
TRAINING = """
    import itertools, json, pathlib, sys, time
    run, last = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    with (run / "metrics.jsonl").open("a") as log:
        for step in range(1, last + 1):
            if step % 10 == 0:
                (run / "checkpoints" / str(step)).mkdir(parents=True)
            print(json.dumps({"step": step, "loss/total": 1 / step}), file=log, flush=True)
            time.sleep(0.01)
"""


def test_training_is_killed_within_the_range_and_its_state_recorded(tmp_path):
    killed = killed_training(TRAINING, tmp_path, range(30, 60), 10_000).run()["killed"]
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert killed["step"] == last >= 30
    assert last < 10_000
    assert killed["checkpoint"] == last // 10 * 10
    again = range(killed["checkpoint"] + 1, last + 1)
    assert killed["loss"] == {str(step): pytest.approx(1 / step) for step in again}


def test_training_that_ends_or_fails_before_it_is_killed_is_an_error(tmp_path):
    with pytest.raises(StageError, match="ended before it could be killed at step 6"):
        killed_training(TRAINING, tmp_path, range(6, 7), 2).run()
    with pytest.raises(StageError, match="exit code 7"):
        killed_training("raise SystemExit(7)", tmp_path, range(6, 7)).run()
    with pytest.raises(StageError, match="is past step 1, the last to kill it at: delete it"):
        killed_training("", tmp_path, range(1, 2)).run()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_its_command_and_resumes_later(tmp_path, kind):
    process = start_module("launch.demo", f"--root={tmp_path / 'demo'}")
    # The first command, and its workers.
    wait_until(lambda: len([w for one in descendants(process.pid) for w in workers(one)]) == os.cpu_count())
    children = [child for one in descendants(process.pid) for child in (one, *descendants(one))]
    if kind == signal.SIGINT:
        os.killpg(process.pid, kind)  # to all processes, as a terminal does
    else:
        process.send_signal(kind)
    _, err = process.communicate()
    wait_until(lambda: not any(map(is_alive, children)))
    assert process.returncode == 128 + kind
    assert err.splitlines()[-1] == "demo: interrupted; run the same command again to go on"
    assert "Traceback" not in err
    assert json.loads((tmp_path / "demo" / stages.RECORD).read_text()) == {}


def test_a_second_demo_in_the_same_directory_is_refused(tmp_path):
    stages.Record(tmp_path)
    with Hold(tmp_path):
        before = tree(tmp_path)
        process = start_module("launch.demo", f"--root={tmp_path}")
        out, err = process.communicate()
        assert (process.returncode, out) == (1, "")
        assert err.startswith(f"demo: {tmp_path} is in use by process {os.getpid()} on host ")
        assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("stray", "do not know what to do with 'stray'"),
        (f"--root={__file__}", "is not empty and has no stages.json"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(argument, message):
    process = start_module("launch.demo", argument)
    out, err = process.communicate()
    assert process.returncode == 1
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("demo: ")
    assert message in err


def test_make_demo_runs_it():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.split("\ndemo: .venv\n")[1].split("\n\n")[0]
    assert "\t$(BIN)/python -m launch.demo --root=runs/demo" in recipe.splitlines()
