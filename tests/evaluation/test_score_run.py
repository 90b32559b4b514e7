"""Scoring a run: the right step, comparison with the untrained model, no file overwritten."""

import json

import pytest
from etils import epath
from matplotlib.image import imread

from hicmae_jax.evaluation import report
from hicmae_jax.evaluation.score_run import score_run
from hicmae_jax.model.config import MaskConfig, ModelConfig
from tests.support import run_fixtures, set_fixtures
from tests.support.run_fixtures import run_module

CLIPS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "set"
    return set_fixtures.write_set(root, [20, 31, 16, 25, 40, 18, 22], size=32, noisy=True, scrambled=(4,))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return run_fixtures.write_run(
        tmp_path_factory.mktemp("run"), run_fixtures.config(data, scan_encoders=True), steps=(3, 5)
    )


def command(*arguments):
    return run_module("launch.evaluate", *arguments)


def test_a_run_and_its_untrained_model_are_scored(run, data, tmp_path):
    done = command(
        f"--run={run}", f"--data={data}", f"--output={tmp_path / 'scores'}", "--step=3", "--batch=4"
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["step"] == 3
    assert scores["clips"] == CLIPS
    (left_out,) = scores["left_out"]
    assert left_out.startswith(f"clip/4 (clip 4 of {data})")
    errors = scores["reconstruction"]
    assert list(errors) == ["trained", "untrained", "zero prediction"]
    assert len({of["total"] for of in errors.values()}) == 3
    assert list(scores["retrieval"]) == ["trained", "untrained"]
    recalls = scores["retrieval"]["trained"]["layer 3"]
    assert list(recalls) == ["video to audio", "audio to video", "mean"]
    assert recalls["mean"]["recall@5"]["chance"] == pytest.approx(5 / CLIPS)
    assert recalls["mean"]["recall@10"]["recall"] == 1
    # The printed table holds the file's numbers.
    for name, of in errors.items():
        line = next(line for line in done.stdout.splitlines() if line.strip().startswith(name))
        assert line.split()[-3:] == [f"{of[term]:.4f}" for term in ("video", "audio", "total")]
    assert f"left out  {left_out}" in done.stdout
    for name in ("reconstructions", "retrieval", "curves"):
        shown = imread(tmp_path / "scores" / f"{name}.png")
        assert shown.shape[1] > 500
        assert shown[..., :3].std() > 0.05


def test_nothing_is_overwritten(run, data, tmp_path):
    (tmp_path / "retrieval.png").write_text("kept")
    done = command(f"--run={run}", f"--data={data}", f"--output={tmp_path}")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line == f"evaluate: {tmp_path}/retrieval.png exists: delete it or give another --output"
    assert [path.name for path in tmp_path.iterdir()] == ["retrieval.png"]
    assert (tmp_path / "retrieval.png").read_text() == "kept"


def test_bad_input_is_refused_before_anything_is_computed(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "score", lambda *_: pytest.fail("computed"))
    output = epath.Path(tmp_path / "scores")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint of step 4; it holds those of 3, 5"):
        score_run(str(run), 4, [str(data)], 64, 4, output)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        score_run(str(tmp_path / "nowhere"), None, [str(data)], 64, 4, output)
    with pytest.raises(FileNotFoundError, match="this directory is not a prepared set"):
        score_run(str(run), None, [str(tmp_path)], 64, 4, output)
    assert not output.exists()
    output.write_text("kept")
    with pytest.raises(FileExistsError, match=f"--output={output} is not a directory"):
        score_run(str(run), None, [str(data)], 64, 4, output)
    assert output.read_text() == "kept"


def test_pictures_say_how_much_is_really_masked():
    masks = MaskConfig(video_ratio=0.9, audio_ratio=0.8)
    assert report.masked_shares(masks, ModelConfig()) == "90% of the picture and 80% of the sound masked"
    large_patches = ModelConfig(image_size=64, frames=8, patch=32)
    assert report.masked_shares(masks, large_patches) == "75% of the picture and 78% of the sound masked"
