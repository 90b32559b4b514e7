"""The command run as a process, which is killed or interrupted."""

import os
import shutil
import signal
import sys

import pytest

from data_pipeline.media.encode import write_mp4, write_wav
from launch import prepare
from tests.support import corpus_fixtures
from tests.support.processes import (
    descendants,
    is_alive,
    start_module,
    wait_until,
    workers,
)

CROP = "--crop=0,8,32,32"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    corpus_fixtures.write_corpus(root, 16)
    return root


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """The corpus prepared without interruption."""
    output = tmp_path_factory.mktemp("whole")
    assert run(corpus, output, "--workers=2")[0] == 0
    return output


def start(corpus, output, *arguments):
    return start_module("launch.prepare", f"--input={corpus}", f"--output={output}", CROP, *arguments)


def run(corpus, output, *arguments):
    process = start(corpus, output, *arguments)
    out, err = process.communicate()
    return process.returncode, out, err


def finished(output):
    """Path → inode, time and content of every file of a finished shard."""
    shards = {path.stem for path in (output / "manifests").glob("*.json")}
    files = [
        path for path in output.rglob("*") if path.is_file() and any(f"{s}" in path.name for s in shards)
    ]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def block(whole, output):
    """Copies a plan, with a pipe in place of the names of shard 6's clips, so that preparation stops there.

    Returns the pipe, and the names.
    """
    output.mkdir()
    shutil.copy(whole / "plan.json", output)
    shutil.copytree(whole / "plan", output / "plan")
    pipe = output / "plan/00006.jsonl"
    names = pipe.read_bytes()
    pipe.unlink()
    os.mkfifo(pipe)
    return pipe, names


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_completed_by_the_same_command(corpus, whole, tmp_path, kind):
    pipe, names = block(whole, tmp_path / "out")
    process = start(corpus, tmp_path / "out", "--workers=1")
    wait_until(lambda: len(list((tmp_path / "out/manifests").glob("*.json"))) == 6)
    children = descendants(process.pid)
    assert workers(process.pid)
    process.send_signal(kind)
    shown = ""
    if kind != signal.SIGKILL:
        while "stopping" not in shown:  # from then on, workers end at their next clip
            character = process.stderr.read(1)
            assert character, shown
            shown += character
        pipe.write_bytes(names)
    _, err = process.communicate()
    wait_until(lambda: not any(map(is_alive, children)))
    if kind == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + kind
        assert err.splitlines()[-1] == "prepare: interrupted; run the same command again to go on"
        assert "Traceback" not in shown + err
    before = finished(tmp_path / "out")
    assert len(before) == 6 * 4  # video, audio, list and manifest
    assert not (tmp_path / "out/dataset.json").exists()

    pipe.unlink()
    pipe.write_bytes(names)
    assert run(corpus, tmp_path / "out", "--workers=2")[0] == 0
    assert finished(tmp_path / "out").items() >= before.items()
    assert corpus_fixtures.tree(tmp_path / "out") == corpus_fixtures.tree(whole)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["to all", "to the first"])
def test_a_signal_while_workers_start_is_one_line(corpus, whole, tmp_path, kind, send):
    block(whole, tmp_path / "out")
    process = start(corpus, tmp_path / "out", "--workers=2")
    wait_until(lambda: workers(process.pid))
    send(process.pid, kind)  # a terminal and most clusters send it to all processes
    _, err = process.communicate()
    assert process.returncode == 128 + kind
    bars = ("listing:", "preparing:", "stopping:")
    lines = [line for line in err.splitlines() if not any(bar in line for bar in bars)]
    assert [line for line in lines if line] == ["prepare: interrupted; run the same command again to go on"]


def test_summary_and_share_of_rejected_clips(tmp_path):
    names = corpus_fixtures.write_corpus(tmp_path / "in", 5)
    corpus_fixtures.files_of(tmp_path / "in", names[0])[0].write_bytes(b"no film")
    code, out, err = run(tmp_path / "in", tmp_path / "out")
    assert code == 2
    assert "kept      4 clips" in out
    assert "not_media         1" in out
    assert "ignored   nothing" in out
    assert err.splitlines()[-1].startswith("prepare: 20.0% of the clips are rejected")
    code, again, err = run(tmp_path / "in", tmp_path / "out", "--max_rejected_share=0.2")
    assert code == 0
    assert [line for line in again.splitlines() if not line.startswith("rate")] == [
        line for line in out.splitlines() if not line.startswith("rate")
    ]


def test_beam_from_the_command_line(corpus, whole, tmp_path):
    code, out, err = run(corpus, tmp_path, "--runner=beam", "--beam_options=--direct_num_workers=1")
    assert code == 0, err
    assert "kept      16 clips" in out
    assert corpus_fixtures.tree(tmp_path) == corpus_fixtures.tree(whole)


def test_frames_of_other_sizes_are_one_warning(corpus, tmp_path):
    code, _, err = run(corpus, tmp_path / "fits")
    assert (code, "the frames of" in err) == (0, False)
    larger, _ = corpus_fixtures.files_of(tmp_path / "in", corpus_fixtures.write_corpus(tmp_path / "in", 4)[0])
    write_mp4(larger, corpus_fixtures.picture(20).repeat(2, axis=1).repeat(2, axis=2))
    code, _, err = run(tmp_path / "in", tmp_path / "out")
    assert code == 0
    (line,) = [line for line in err.splitlines() if "the frames of" in line]
    assert line.startswith("prepare: warning: the frames of 1 of 4 clips (25.0%) are not 32 × 48")


def test_a_tree_as_people_have_it(tmp_path):
    """Capitals are found; what is no clip is counted and never rejected; the shell's slash does no harm."""
    names = corpus_fixtures.write_corpus(tmp_path / "in", 4)
    videos, sounds = zip(*(corpus_fixtures.files_of(tmp_path / "in", name) for name in names))
    videos[0].rename(videos[0].with_suffix(".MP4"))
    sounds[1].rename(sounds[1].with_suffix(".M4A"))
    write_wav(sounds[2].with_suffix(".Wav"), corpus_fixtures.tone(0.9))
    sounds[2].unlink()
    videos[3].with_suffix(".MP4").write_bytes(b"no film")
    videos[0].with_name("._1.mp4").write_bytes(b"no film")
    videos[1].with_name("9.mp4.part").write_bytes(b"no film")
    (tmp_path / "in/dev/mp4/.DS_Store").write_bytes(b"")
    code, out, err = run(tmp_path / "in", tmp_path / "out", "--split=dev/")
    assert code == 0, err
    assert "kept      4 clips" in out
    assert "rejected  0" in out
    assert "ignored   2 of macOS, 1 of unfinished downloads, 1 second files of a clip" in out
    assert "listing: 12file" in err
    assert (tmp_path / "out/rejected.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--crop=1,2,3"], "--crop=1,2,3 is not face, none or top,left,height,width"),
        (["--crop=0,0,0,9"], "a crop needs"),
        (["--split=train"], "train/mp4 is not a directory"),
        (["--split="], "split '' must have letters, digits"),
        (["--split=."], "split '.' must have letters, digits"),
        (["--split=dev/mp4"], "split 'dev/mp4' must have letters, digits"),
        (["--split=dev.1"], "split 'dev.1' must have letters, digits"),
        (["--split=dev a"], "split 'dev a' must have letters, digits"),
        (["--shard_mb=-1"], "shard_mb must be above 0"),
        (["stray"], "do not know what to do with 'stray'"),
        (["--crop=0,0,224,224"], "frame_too_small"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(corpus, tmp_path, arguments, message):
    code, out, err = run(corpus, tmp_path / "out", *arguments)
    assert code == 1
    assert out == ""
    (line,) = [line for line in err.splitlines() if line and not line.startswith("listing:")]
    assert line.startswith("prepare: ")
    assert message in line
    assert corpus_fixtures.tree(tmp_path) == {}


def test_a_missing_beam_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "data_pipeline.preparation.beam_runner", raising=False)
    with pytest.raises(RuntimeError, match=r"needs apache_beam: pip install 'hicmae_jax\[beam\]'"):
        prepare.run_on_beam([], "")
