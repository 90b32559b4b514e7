"""The evaluations of a run: what they log and write, also after a restart, and what is refused before."""

import shutil

import pytest

from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.runs import pretrain
from tests.support import shrunk_recipe
from tests.support.finetune_fixtures import write_labelled_set
from tests.support.real_runs import lines_without_times

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    shrunk_recipe.write_clips(root / "dev", 9)
    shrunk_recipe.write_clips(root / "test", 6)
    write_labelled_set(root / "labelled")
    return root


def config(data, **changes):
    settings = {
        "steps": 4,
        "evaluation__sets": (str(data / "test"),),
        "evaluation__every": 2,
        "evaluation__batch": 8,
        "evaluation__video_ratio": 0.75,
        "evaluation__picture_every": 3,
        "evaluation__labelled": str(data / "labelled"),
        "evaluation__probe_every": 3,
    }
    return shrunk_recipe.config(data / "dev", **settings | changes)


def run(settings, directory):
    return pretrain.run(settings, directory, show_progress=False)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "whole"
    run(config(data), directory)
    return directory


def steps_of(directory, score):
    return [line["step"] for line in read_metrics(directory) if score in line]


@pytest.mark.slow
def test_every_evaluation_is_logged_at_its_interval_and_at_the_end(whole):
    assert steps_of(whole, "held_out/video") == [2, 4]
    assert steps_of(whole, "geometry/rank_audio/layer_2") == [2, 4]
    assert steps_of(whole, "probe/linear_uar") == [3, 4]
    assert steps_of(whole, "picture/clips") == [3, 4]
    assert steps_of(whole, "time/evaluation_seconds") == [2, 2, 3, 3, 4, 4, 4, 4]
    (last,) = [line for line in read_metrics(whole) if line["step"] == 4 and "probe/clips" in line]
    assert (last["probe/clips_fitted"], last["probe/clips"]) == (18, 6)
    assert last["probe/chance_uar"] == pytest.approx(1 / 6)
    assert {f"probe/{of}_{score}" for of in ("linear", "knn") for score in ("uar", "war")} <= set(last)


@pytest.mark.slow
def test_pictures_are_written(whole):
    pictures = sorted((whole / "pictures").iterdir())
    assert [path.name for path in pictures] == ["step_000003.png", "step_000004.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


@pytest.mark.slow
def test_a_restarted_run_logs_and_draws_the_same(whole, data, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/4")
    shutil.rmtree(tmp_path / "run/pictures")
    run(config(data), tmp_path / "run")
    output = capsys.readouterr().out
    assert "going on    from step 2 of 4" in output
    assert "probe       made_up fold 1: 18 clips to fit, 6 to score, on speakers held out of" in output
    assert lines_without_times(tmp_path / "run") == lines_without_times(whole)
    for path in (whole / "pictures").iterdir():
        assert (tmp_path / "run/pictures" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_run_without_other_evaluations_only_scores_held_out_clips(data, tmp_path):
    """As before there were any others, and with the same scores, which depend on no other evaluation."""
    off = {"evaluation__picture_every": None, "evaluation__labelled": "", "evaluation__probe_every": None}
    run(config(data, steps=3, evaluation__every=None, evaluation__video_ratio=0.5, **off), tmp_path / "a")
    run(config(data, steps=3, evaluation__video_ratio=None), tmp_path / "b")
    assert not (tmp_path / "a/pictures").exists()
    found = [
        line for name in "ab" for line in lines_without_times(tmp_path / name) if "held_out/video" in line
    ]
    assert [line["step"] for line in found] == [3, 2, 3]
    assert found[0] == found[2] != found[1]
    assert steps_of(tmp_path / "a", "probe/clips") == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"evaluation__labelled": "nowhere"}, "nowhere/labelled.json is missing: there is no such directory"),
        ({"evaluation__labelled": "DEV"}, "dev/labelled.json is missing: this is a set for pre-training"),
        ({"evaluation__protocol": "ravdess"}, "evaluation.protocol ravdess is a protocol of ravdess"),
        ({"evaluation__labelled_clips": 6}, "evaluation.labelled_clips: 4 clips to fit are fewer than the 6"),
        ({"evaluation__batch": 10**9, "evaluation__labelled_clips": 10**9}, None),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_training(data, tmp_path, changes, error):
    changes = {key: str(data / "dev") if value == "DEV" else value for key, value in changes.items()}
    if error is None:
        # More than there are: all of them are taken.
        assert pretrain._Data(config(data, **changes)).evaluations.lines[0].startswith("probe       made_up")
        return
    with pytest.raises((ValueError, FileNotFoundError), match=error) as refused:
        run(config(data, **changes), tmp_path / "run")
    assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
