"""The largest face of a clip is followed and cut out; a clip without one is refused."""

import numpy as np
import pytest
import simplejpeg
from etils import epath

from data_pipeline.media import face_video
from data_pipeline.media.decode import FaceCrop, load_clip
from data_pipeline.media.encode import write_mp4, write_wav
from data_pipeline.media.face_clip import load_face_clip
from data_pipeline.media.face_crop import crop_box, cut
from data_pipeline.media.faces import Face
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.stretch import Stretch
from tests.support.face_pictures import FACE, film, needs_detector
from tests.support.media_files import tone


def write(directory, frames):
    """Write a pair of files."""
    write_mp4(directory / "a.mp4", frames, crf=5)
    write_wav(directory / "a.wav", tone(len(frames) / 25))
    return epath.Path(directory / "a.mp4"), epath.Path(directory / "a.wav")


def decoded(jpegs):
    return np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]).astype(int)


@pytest.fixture
def find(monkeypatch):
    """Lets a test find faces in another way, without the detector."""
    seen = []

    def use(faces_of):
        def detect(picture):
            seen.append(picture)
            return faces_of(len(seen) - 1)

        monkeypatch.setattr(face_video, "check_installed", lambda: None)
        monkeypatch.setattr(face_video, "detect", detect)
        return seen

    return use


def test_the_face_is_followed(tmp_path, find):
    frames = film(50, step=1)

    def moved(look):
        number = min(5 * look, 49)  # every fifth frame, and the last one
        return [Face(FACE + np.array([number, 0, number, 0]), 1.0)]

    seen = find(moved)
    clip = load_clip(*write(tmp_path, frames), FaceCrop(side=64))
    assert len(seen) == 11
    assert clip.frame_size == (240, 320)
    shown = decoded(clip.jpegs)
    assert shown.shape == (50, 64, 64, 3)
    expected = cut(frames[0], crop_box(FACE), 64).astype(int)
    assert all(np.abs(picture - expected).mean() < 6 for picture in shown)
    still = np.stack([cut(frame, crop_box(FACE), 64).astype(int) for frame in frames])
    assert np.abs(still[40] - expected).mean() > 30  # a box that stays would lose the face


def test_a_labelled_clip_keeps_the_face_too(tmp_path, find):
    find(lambda look: [Face(FACE.astype(float), 1.0)])
    video, audio = write(tmp_path, film(20))
    clip = load_face_clip(None, video, audio, Stretch(64), find_face=True)
    expected = cut(film(1)[0], crop_box(FACE), 64).astype(int)
    shown = decoded(clip.jpegs)
    assert shown.shape == (20, 64, 64, 3)
    assert np.abs(shown - expected).mean() < 5


@pytest.mark.parametrize(("with_face", "refused"), [(0, True), (5, True), (6, False), (11, False)])
def test_a_face_must_be_there_in_half_of_the_clip(tmp_path, find, with_face, refused):
    find(lambda look: [Face(FACE.astype(float), 1.0)] if look < with_face else [])
    files = write(tmp_path, film(50))
    if not refused:
        assert len(load_clip(*files, FaceCrop(side=64)).jpegs) == 50
        return
    with pytest.raises(UnusableClipError) as caught:
        load_clip(*files, FaceCrop(side=64))
    assert caught.value.reason == Reason.NO_FACE


def test_an_error_of_the_detector_is_no_fault_of_the_clip(tmp_path, find):
    def fail(look):
        raise ZeroDivisionError

    find(fail)
    files = write(tmp_path, film(10))
    with pytest.raises(ZeroDivisionError):
        load_clip(*files, FaceCrop())


def test_without_the_detector_no_clip_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipeline.media.faces.installed", lambda: False)
    files = write(tmp_path, film(10))
    with pytest.raises(ImportError, match=r"hicmae_jax\[face\]"):
        load_clip(*files, FaceCrop())


@needs_detector
def test_a_real_face_fills_the_frame(tmp_path):
    clip = load_clip(*write(tmp_path, film(25, step=2)), FaceCrop())
    expected = cut(film(1)[0], crop_box(FACE), 160).astype(int)
    shown = decoded(clip.jpegs)
    assert shown.shape == (25, 160, 160, 3)
    assert max(np.abs(picture - expected).mean() for picture in shown) < 25


@needs_detector
def test_a_film_without_a_face_is_refused(tmp_path):
    files = write(tmp_path, np.full((25, 240, 320, 3), 90, np.uint8))
    with pytest.raises(UnusableClipError) as caught:
        load_clip(*files, FaceCrop())
    assert caught.value.reason == Reason.NO_FACE
