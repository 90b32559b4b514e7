"""`launch.prepare --dataset=…` as a process."""

import pytest

from data_pipeline.format.labelled_set import read_labelled_set
from tests.support import labelled_fixtures as fixtures
from tests.support.processes import start_module


def run(*words):
    process = start_module("launch.prepare", *map(str, words))
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    fixtures.write_made_up(root)
    return root


def test_a_data_set_is_prepared_and_compared_with_its_protocol(corpus, tmp_path):
    (corpus / "video" / "clip004.mp4").unlink()
    words = ("--dataset=made_up", f"--input={corpus}", f"--output={tmp_path}", "--side=48", "--workers=2")
    code, out, err = run(*words)
    assert code == 2  # one of eight clips is rejected
    assert "12.5% of the clips are rejected, more than --max_rejected_share=0.05" in err
    assert "  missing_video     1\n" in out
    assert "protocol  made_up: all numbers of clips are as expected" in out
    assert read_labelled_set(tmp_path).height == 48
    code, again, _ = run(*words, "--max_rejected_share=0.2")
    assert code == 0
    assert again.split("rate")[0] == out.split("rate")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset=made_up", "--split=dev"), "--split does not go with --dataset"),
        (("--frames=faces",), "--frames is for a labelled data set: give its name with --dataset"),
        (("--dataset=crema",), "value should be one of <crema_d|"),
    ],
)
def test_a_mistake_is_one_line(corpus, tmp_path, words, message):
    code, out, err = run(f"--input={corpus}", f"--output={tmp_path / 'out'}", *words)
    assert (code, out) == (1, "")
    assert err.startswith("prepare: ")
    assert err.count("\n") == 1
    assert message in err
