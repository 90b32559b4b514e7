"""The command that writes a synthetic corpus, run as a process."""

import csv
import os
import signal
import subprocess
import sys

import av
import pytest

from tests.support.processes import descendants, is_alive, start_module, wait_until, workers


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "launch.make_corpus", *arguments],
        capture_output=True,
        text=True,
        env=os.environ,
    )


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_leaves_no_process_behind(tmp_path, kind):
    process = start_module("launch.make_corpus", f"--root={tmp_path}", "--clips=40", "--workers=2")
    wait_until(lambda: len(workers(process.pid)) == 2)
    children = descendants(process.pid)
    if kind == signal.SIGINT:
        os.killpg(process.pid, kind)  # to all processes, as a terminal does
    else:
        process.send_signal(kind)
    wait_until(lambda: not any(map(is_alive, children)))
    _, err = process.communicate()
    if kind == signal.SIGKILL:
        assert process.returncode == -kind
    else:
        assert process.returncode == 128 + kind
        assert err.splitlines()[-1] == "make_corpus: interrupted; run the same command again to go on"
        assert "Traceback" not in err


def test_the_command_writes_a_corpus_and_refuses_a_foreign_directory(tmp_path):
    done = command("--root", str(tmp_path / "a"), "--clips", "2", "--layout", "crema_d", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "2 clips of crema_d" in done.stdout
    assert len(list((tmp_path / "a").rglob("*.wav"))) == 2
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("")
    refused = command("--root", str(tmp_path / "b"), "--clips", "2")
    assert refused.returncode == 1
    assert refused.stderr.strip() == (
        f"make_corpus: {tmp_path / 'b'} is not empty and not a synthetic corpus: give a new or empty "
        "directory"
    )


def test_the_command_writes_clips_of_the_length_and_split_asked_for(tmp_path):
    options = ("--clips=3", "--speakers=3", "--test_speakers=2", "--seconds=0.6,0.8", "--workers=1")
    done = command(f"--root={tmp_path}", *options)
    assert done.returncode == 0, done.stderr
    assert {split: len(list((tmp_path / split).rglob("*.mp4"))) for split in ("dev", "test")} == {
        "dev": 1,
        "test": 2,
    }
    for path in tmp_path.rglob("*.mp4"):
        with av.open(str(path)) as container:
            assert 15 <= sum(1 for _ in container.decode(video=0)) <= 20


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--seconds=4", "--seconds=4 is not shortest,longest"),
        ("--seconds=9,4", "give the shortest"),
        ("--test_speakers=25", "25 of 25 speakers cannot be the test split"),
    ],
)
def test_a_wrong_length_or_split_is_one_clear_line(tmp_path, option, message):
    done = command(f"--root={tmp_path / 'a'}", option)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "a").exists()


def test_the_command_writes_a_labelled_corpus(tmp_path):
    done = command(f"--root={tmp_path}", "--layout=made_up", "--clips=2", "--speakers=2", "--seconds=0.6,0.8")
    assert done.returncode == 0, done.stderr
    assert "2 clips of made_up" in done.stdout
    names = [line.split(",")[0] for line in (tmp_path / "labels.csv").read_text().splitlines()]
    assert names == ["clip", "s0000_000", "s0001_000"]
    for name in names[1:]:
        assert (tmp_path / "video" / f"{name}.mp4").exists()
        assert (tmp_path / "sound" / f"{name}.wav").exists()


def test_made_up_emotions_can_be_easy(tmp_path):
    done = command(
        f"--root={tmp_path}", "--layout=made_up", "--nodifficult", "--clips=2", "--seconds=0.6,0.8"
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["face"], row["voice"], row["occluded"]) for row in rows} == {
        (row["emotion"], row["emotion"], "") for row in rows
    }
    assert {row["intensity"] for row in rows} <= {"0.000", "1.000"}
    assert min(float(row["signal_to_noise"]) for row in rows) >= 90


@pytest.mark.parametrize(
    ("layout", "option", "layouts"),
    [
        ("crema_d", "--test_speakers=1", "voxceleb2"),
        ("crema_d", "--seconds=1,2", "voxceleb2 and made_up"),
        ("crema_d", "--nodifficult", "voxceleb2 and made_up"),
    ],
)
def test_options_of_other_layouts_are_refused(tmp_path, layout, option, layouts):
    done = command(f"--root={tmp_path / 'a'}", f"--layout={layout}", option)
    assert done.returncode == 1
    name = option.split("=")[0].replace("--no", "--")
    assert done.stderr == f"make_corpus: {name} is for --layout={layouts} only\n"
