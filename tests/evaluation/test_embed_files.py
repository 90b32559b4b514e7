"""Many files are embedded side by side: resumed, with broken ones listed, and none held in memory."""

import csv
import json

import numpy as np
import pyarrow.parquet
import pytest
from etils import epath

from data_pipeline.media.windows import Window
from hicmae_jax.evaluation import embed_run, embedded_file
from hicmae_jax.evaluation.embed_run import Choices, embed_videos
from hicmae_jax.evaluation.window_queue import read_side_by_side
from tests.support import corpus_fixtures, finetune_fixtures, flash_and_click, run_fixtures
from tests.support.run_fixtures import run_module

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)

CHOICES = Choices(faces="centre", batch=4, threads=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    (root / "deep").mkdir()
    flash_and_click.write(root / "a.mp4")
    flash_and_click.write(root / "deep/b.mkv")
    flash_and_click.write(root / "silent.webm", video="libvpx-vp9", audio=None)
    flash_and_click.write(root / "heard.wav", video=None, audio="pcm_s16le")
    (root / "text.mp4").write_text("no video")
    (root / "empty.avi").touch()
    return root


@pytest.fixture(scope="module")
def fold(tmp_path_factory):
    data = finetune_fixtures.write_labelled_set(tmp_path_factory.mktemp("set"), 12, speakers=4)
    run = tmp_path_factory.mktemp("run") / "fold-1"
    return finetune_fixtures.write_run(run, finetune_fixtures.config(data))


@pytest.fixture(scope="module")
def output(videos, fold, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "out"
    done = embed_videos(fold, [str(videos)], output, CHOICES)
    assert list(done.files) == ["a.mp4", "deep/b.mkv", "heard.wav", "silent.webm"]
    assert sorted(done.broken) == ["empty.avi", "text.mp4"]
    return output


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_window_has_its_scores(output):
    rows = [row for row in table(output / "scores.csv") if row["file"] == "deep/b.mkv"]
    # 50 frames of 25 a second: windows of 8 frames every 4, the last one at the end.
    assert [row["begin"] for row in rows] == [f"{0.16 * k:.2f}" for k in range(11)] + ["1.68"]
    assert {row["modality"] for row in rows} == {"audio-visual"}
    for row in rows:
        probabilities = {name: float(row[name]) for name in finetune_fixtures.CLASSES}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert probabilities[row["emotion"]] == max(probabilities.values())


def test_a_file_has_the_mean_of_its_windows_and_its_notes(output):
    windows = [row for row in table(output / "scores.csv") if row["file"] == "a.mp4"]
    by_file = {row["file"]: row for row in table(output / "files.csv")}
    mean = np.mean([float(row["ANG"]) for row in windows])
    assert float(by_file["a.mp4"]["ANG"]) == pytest.approx(mean, abs=1e-3)
    assert by_file["a.mp4"]["windows"] == str(len(windows))
    assert "no sound: the picture alone is used" in by_file["silent.webm"]["notes"]
    nested = json.loads((output / "scores.json").read_text())
    assert nested["a.mp4"]["faces"][0]["mean"]["ANG"] == float(by_file["a.mp4"]["ANG"])
    assert len(nested["a.mp4"]["faces"][0]["windows"]) == len(windows)


def test_broken_files_are_listed_with_a_reason(output):
    lines = (output / "broken.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["empty.avi", "text.mp4"]
    assert all("not_media" in line for line in lines)


def test_every_file_has_a_picture(output):
    for name in ("a.mp4", "deep/b.mkv", "heard.wav", "silent.webm"):
        assert (output / f"files/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_files_that_are_done_are_not_read_again(output, fold, videos, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.np*")}
    (output / "files/a.mp4.npz").write_bytes(b"half")
    read = []
    whole = embed_run.read_windows
    monkeypatch.setattr(
        embed_run, "read_windows", lambda given, *a, **k: read.append(given.name) or whole(given, *a, **k)
    )
    embed_videos(fold, [str(videos)], output, CHOICES)
    assert sorted(read) == ["a.mp4", "empty.avi", "text.mp4"]
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*.np*")}
    assert [path.name for path in before if before[path] != after[path]] == ["a.mp4.npz"]


def test_results_of_another_hop_or_model_are_not_mixed(output, fold, videos, tmp_path):
    with pytest.raises(
        FileExistsError, match=r"holds results with hop 0\.16, not 0\.32: give another --output"
    ):
        embed_videos(fold, [str(videos)], output, Choices(faces="centre", hop=0.32))
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="not empty and holds no results"):
        embed_videos(fold, [str(videos)], tmp_path, CHOICES)
    with pytest.raises(ValueError, match=r"--hop=0\.01 s is too short"):
        embed_videos(fold, [str(videos)], tmp_path / "new", Choices(faces="centre", hop=0.01))


def test_a_pre_training_model_gives_features_and_a_table_of_them(videos, tmp_path):
    run = run_fixtures.write_run(tmp_path / "run", run_fixtures.config("any"))
    done = embed_videos(run, [str(videos)], tmp_path / "out", Choices(faces="whole", batch=4, parquet=True))
    assert not done.emotions
    features = pyarrow.parquet.read_table(tmp_path / "out/features.parquet")
    found = embedded_file.read(epath.Path(tmp_path / "out/files/a.mp4.npz"))
    rows = [row for row in features.to_pylist() if row["file"] == "a.mp4"]
    np.testing.assert_array_equal([row["video_3"] for row in rows], found.arrays["video_3"])
    assert {row["fused_audio"] is None for row in features.to_pylist() if row["file"] == "heard.wav"} == {
        True
    }
    assert not (tmp_path / "out/scores.csv").exists()
    assert table(tmp_path / "out/files.csv")[0]["file"] == "a.mp4"


def test_few_windows_of_many_files_wait_in_memory():
    """Readers stop when the queue is full, and go on when it is read."""
    made = []

    def read(given, notes):
        for number in range(100):
            made.append(number)
            yield Window(number, number + 1, 0, None, np.zeros(9, np.int16))

    items = read_side_by_side(list(range(5)), read, threads=3, held=4)
    for _ in range(10):
        next(items)
    # Ten are read, four wait in the queue, and each of three threads holds one.
    assert len(made) <= 10 + 4 + 3
    rest = list(items)
    assert len(made) == 500
    assert sum(item.window is None for item in rest) == 5


def test_a_mistake_in_a_thread_is_not_taken_for_a_broken_file():
    def read(given, notes):
        raise KeyError("mistake")
        yield

    with pytest.raises(KeyError, match="mistake"):
        list(read_side_by_side([1], read, threads=1, held=2))


def test_the_command_says_what_it_has_done(videos, fold, tmp_path):
    done = run_module(
        "launch.embed",
        f"--model={fold}",
        f"--input={videos}",
        f"--output={tmp_path / 'out'}",
        "--faces=centre",
    )
    assert done.returncode == 0
    assert "4 files, 2 left out" in done.stdout
    assert "left out  text.mp4: not_media" in done.stdout
    nothing = run_module(
        "launch.embed", f"--model={fold}", f"--input={videos}/text.mp4", f"--output={tmp_path / 'b'}"
    )
    assert nothing.returncode == 2
    wrong = run_module("launch.embed", f"--model={videos}", f"--input={videos}", f"--output={tmp_path / 'c'}")
    assert wrong.returncode == 1
    assert wrong.stderr.count("\n") == 1
