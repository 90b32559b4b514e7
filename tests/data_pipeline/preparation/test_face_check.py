"""A set whose frames show no faces is noticed."""

import numpy as np
import pytest

from data_pipeline.media.decode import Crop
from data_pipeline.media.encode import write_m4a, write_mp4
from data_pipeline.media.faces import Face
from data_pipeline.preparation import face_check
from data_pipeline.preparation.face_check import FaceLook, look, warning
from data_pipeline.preparation.plan import Options
from launch import face_look
from tests.support import corpus_fixtures, labelled_fixtures
from tests.support.face_pictures import film, needs_detector


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A set of 9 clips, and its description."""
    root = tmp_path_factory.mktemp("prepared")
    corpus_fixtures.write_corpus(root / "in")
    return root / "out", corpus_fixtures.prepare(root / "in", root / "out")


@pytest.fixture
def find(monkeypatch):
    """Lets a test find one face: left, top, right and bottom edge as shares of the frame, or none."""

    def use(*boxes):
        places = iter(boxes)

        def detect(picture):
            box = next(places)
            return [] if box is None else [Face(np.array(box) * ([*picture.shape[1::-1]] * 2), 1.0)]

        monkeypatch.setattr(face_check, "detect", detect)

    return use


IN_THE_MIDDLE, SMALL, AT_THE_EDGE = (0.3, 0.2, 0.7, 0.8), (0.4, 0.4, 0.6, 0.7), (0.0, 0.3, 0.2, 0.7)


@pytest.mark.parametrize("n_faces", [0, 4, 5, 9])
def test_half_of_the_clips_must_show_a_face(prepared, find, n_faces):
    find(*[IN_THE_MIDDLE] * n_faces, *[None] * (9 - n_faces))
    found = look(*prepared)
    assert found == FaceLook(9, n_faces, 0)
    assert (warning(found) is None) == (n_faces >= 5)


def test_a_small_face_or_one_at_the_edge_does_not_count(prepared, find):
    find(*[SMALL] * 3, *[AT_THE_EDGE] * 3, *[None] * 3)
    assert look(*prepared) == FaceLook(9, 0, 6)


def test_the_warning_says_what_was_found_and_what_to_do():
    line = warning(FaceLook(20, 3, 10))
    assert "\n" not in line
    assert line.startswith("warning: 3 of 20 clips that were looked at show a face")
    assert "(10 show a small one or one at the edge)" in line
    assert "--crop=face" in line


def test_an_unreadable_set_is_no_set_without_faces(prepared, find):
    root, about = prepared
    find()
    found = look(root / "elsewhere", about)
    assert found == FaceLook(0, 0, 0)
    assert warning(found) is None


def test_a_labelled_set_is_looked_at_too(tmp_path, find):
    labelled_fixtures.write_made_up(tmp_path / "in")
    about = labelled_fixtures.prepare("made_up", tmp_path / "in", tmp_path / "out")
    find(*[IN_THE_MIDDLE] * 2, *[None] * 6)
    assert look(tmp_path / "out", about) == FaceLook(8, 2, 0)


def test_without_the_detector_nothing_is_looked_for(prepared, monkeypatch):
    monkeypatch.setattr("data_pipeline.media.faces.installed", lambda: False)
    found, line = face_look.report(*prepared)
    assert found == "not looked for: pip install 'hicmae_jax[face]'"
    assert line is None


def write_films(root, n_clips):
    for number in range(n_clips):
        files = corpus_fixtures.files_of(root, f"id00000/video/{number:05d}")
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(files[0], film(20, 240, 320, left=number))
        write_m4a(files[1], corpus_fixtures.tone(0.8))


@needs_detector
@pytest.mark.parametrize(
    ("crop", "n_faces", "n_small"),
    [
        (Crop(28, 65, 90, 90), 4, 0),
        (Crop(0, 0, 240, 320), 0, 4),
        (Crop(0, 160, 160, 160), 0, 0),
    ],
)
def test_a_real_face(tmp_path, crop, n_faces, n_small):
    write_films(tmp_path / "in", 4)
    about = corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", Options(crop=crop))
    found = look(tmp_path / "out", about)
    assert found == FaceLook(4, n_faces, n_small)
    assert (warning(found) is None) == (n_faces == 4)
