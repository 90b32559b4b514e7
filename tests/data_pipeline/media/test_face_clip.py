import os

import numpy as np
import pytest
import simplejpeg
from etils import epath
from PIL import Image

from data_pipeline.media.encode import write_mp4, write_wav
from data_pipeline.media.face_clip import load_face_clip
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.stretch import Stretch
from tests.support.corpus_fixtures import tone
from tests.support.media_files import grey_steps

STRETCH = Stretch(48)


def load(frames=None, video=None, audio=None):
    paths = (path and epath.Path(path) for path in (frames, video, audio))
    return load_face_clip(*paths, STRETCH)


def numbers(clip):
    """The numbers of the frames of a clip of `grey_steps`."""
    return [round(simplejpeg.decode_jpeg(jpeg).mean() / 4) for jpeg in clip.jpegs]


@pytest.fixture
def sound(tmp_path):
    write_wav(tmp_path / "sound.wav", tone(1.0))
    return tmp_path / "sound.wav"


def write_frames(folder, count, names="frame_{:03d}.png"):
    folder.mkdir()
    for number, pixels in enumerate(grey_steps(count)):
        Image.fromarray(pixels).save(folder / names.format(number))
    return folder


@pytest.mark.parametrize("names", ["frame_{:03d}.png", "{:04d}.JPG", "frame_det_00_{:06d}.jpeg"])
def test_frames_are_taken_in_the_order_of_their_names(tmp_path, sound, names):
    folder = write_frames(tmp_path / "faces", 12, names)
    (folder / "notes.txt").touch()
    (folder / "._frame_000.png").touch()
    clip = load(folder, None, sound)
    assert numbers(clip) == list(range(12))
    assert simplejpeg.decode_jpeg(clip.jpegs[0]).shape == (48, 48, 3)
    assert (len(clip.samples), clip.samples.dtype) == (16_000, np.int16)


@pytest.mark.parametrize("ending", [".mp4", ".flv"])
def test_a_video_gives_25_frames_a_second_and_its_own_sound(tmp_path, ending):
    video = tmp_path / f"clip{ending}"
    write_mp4(video, grey_steps(30), fps=50, crf=5, samples=tone(0.6))
    clip = load(None, video, None)
    assert len(clip.jpegs) == 15
    assert numbers(clip) == pytest.approx(list(range(0, 30, 2)), abs=1)
    # FLV does not tell where the padding of AAC begins and ends.
    assert len(clip.samples) == pytest.approx(9_600, abs=2_100 if ending == ".flv" else 16)


def test_a_frame_is_stretched_whole(tmp_path, sound):
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 50:] = (255, 0, 0)  # the right half is red
    folder = tmp_path / "faces"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "0.png")
    stored = simplejpeg.decode_jpeg(load(folder, None, sound).jpegs[0]).astype(int)
    assert stored[:, :23].max() < 30
    assert stored[:, 25:, 0].min() > 225
    assert stored[:, 25:, 1:].max() < 30


def test_frames_come_before_the_video_and_sound_from_it(tmp_path):
    folder = write_frames(tmp_path / "faces", 5)
    write_mp4(tmp_path / "clip.mp4", grey_steps(25), samples=tone(1.0))
    clip = load(folder, tmp_path / "clip.mp4", None)
    assert len(clip.jpegs) == 5
    assert len(clip.samples) == pytest.approx(16_000, abs=16)


def test_lengths_of_sound_and_picture_may_differ(tmp_path):
    write_wav(tmp_path / "long.wav", tone(3.0))
    assert len(load(write_frames(tmp_path / "faces", 5), None, tmp_path / "long.wav").samples) == 48_000


def reason_of(*paths):
    with pytest.raises(UnusableClipError) as caught:
        load(*paths)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_what_cannot_be_used_has_a_reason(tmp_path, sound):
    folder = write_frames(tmp_path / "faces", 3)
    (tmp_path / "empty").mkdir()
    write_wav(tmp_path / "short.wav", np.zeros(1_024, np.int16))
    write_mp4(tmp_path / "silent.mp4", grey_steps(25))
    assert reason_of(tmp_path / "none", None, sound) == Reason.MISSING_FRAMES
    assert reason_of(tmp_path / "empty", None, sound) == Reason.MISSING_FRAMES
    assert reason_of(sound, None, sound) == Reason.MISSING_FRAMES
    assert reason_of(None, None, sound) == Reason.MISSING_FRAMES
    assert reason_of(None, tmp_path / "none.mp4", sound) == Reason.MISSING_VIDEO
    assert reason_of(folder, None, None) == Reason.MISSING_AUDIO
    assert reason_of(folder, None, tmp_path / "none.wav") == Reason.MISSING_AUDIO
    assert reason_of(None, tmp_path / "silent.mp4", None) == Reason.MISSING_AUDIO
    assert reason_of(folder, None, tmp_path / "short.wav") == Reason.TOO_SHORT_AUDIO


@pytest.mark.parametrize("kept", [0, 20, 200])
def test_a_damaged_frame_is_the_fault_of_the_clip(tmp_path, sound, kept):
    folder = write_frames(tmp_path / "faces", 3)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(folder / "frame_001.png")
    os.truncate(folder / "frame_001.png", kept)
    assert reason_of(folder, None, sound) == Reason.CORRUPT_FRAME


def test_an_error_of_the_machine_is_not(tmp_path, sound):
    folder = write_frames(tmp_path / "faces", 3)
    (folder / "frame_001.png").unlink()
    (folder / "frame_001.png").symlink_to("/proc/self/mem")  # it opens, and then every read fails
    with pytest.raises(OSError, match="Input/output error"):
        load(folder, None, sound)


@pytest.mark.parametrize("side", [0, 15, 1_025])
def test_a_side_out_of_reach_is_refused(side):
    with pytest.raises(ValueError, match=f"side {side} must be from 16 to 1,024 pixels"):
        Stretch(side)
