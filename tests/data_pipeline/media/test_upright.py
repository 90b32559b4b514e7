"""What a player shows is stored: turned, mirrored and stretched pictures, changes midway, several tracks."""

from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg
from av.stream import Disposition
from etils import epath

from data_pipeline.media.decode import Crop, Reason, load_clip
from data_pipeline.media.encode import write_wav
from tests.support.media_files import (
    SMALL,
    add_picture_track,
    grey_steps,
    mux_pictures,
    numbers,
    reason_of,
    tone,
    write_pictures,
)

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def corners(height, width):
    """Red, green, blue and grey quarters: each turn and mirror image looks different."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = RED, GREEN
    picture[top:, :left], picture[top:, left:] = BLUE, GREY
    return picture


def stored(clip, index=0):
    return simplejpeg.decode_jpeg(clip.jpegs[index]).astype(int)


def is_picture(actual, expected):
    """Compares all but the seams of the quarters, where JPEG mixes the colours."""
    height, width = expected.shape[:2]
    inner = np.ones((height, width), bool)
    inner[height // 2 - 8 : height // 2 + 8] = inner[:, width // 2 - 8 : width // 2 + 8] = False
    return actual.shape == expected.shape and np.abs(actual - expected)[inner].max() < 16


@pytest.fixture
def files(tmp_path):
    write_wav(tmp_path / "clip.wav", tone(0.4))
    return epath.Path(tmp_path / "clip.mp4"), epath.Path(tmp_path / "clip.wav")


@pytest.mark.parametrize("mirrored", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_and_mirrored_pictures_are_upright(files, degrees, mirrored):
    coded = corners(64, 96)
    write_pictures(
        files[0],
        [coded] * 10,
        setup=lambda stream: stream.set_display_rotation(degrees, hflip=1 in mirrored, vflip=0 in mirrored),
    )
    expected = np.flip(np.rot90(coded, degrees // 90), mirrored)  # anticlockwise, then mirrored
    height, width = expected.shape[:2]
    clip = load_clip(*files, Crop(0, 0, height, width))
    assert clip.frame_size == (height, width)
    assert is_picture(stored(clip), expected)


@pytest.mark.parametrize("degrees", [5, 45, 100])
def test_a_tilted_picture_is_refused(files, degrees):
    write_pictures(files[0], grey_steps(10), setup=lambda stream: stream.set_display_rotation(degrees))
    assert reason_of(*files) == Reason.TILTED_VIDEO


@pytest.mark.parametrize("matrix", [[0] * 8 + [1 << 30], [1 << 16, 1 << 16, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]])
def test_a_matrix_that_flattens_or_shears_is_refused(files, matrix):
    write_pictures(files[0], grey_steps(10), setup=lambda stream: stream.set_display_matrix(matrix))
    assert reason_of(*files) == Reason.TILTED_VIDEO


@pytest.mark.parametrize(
    ("pixel_aspect", "size"),
    [
        (Fraction(2), (64, 128)),
        (Fraction(1, 2), (64, 32)),
        (Fraction(1), (64, 64)),
        (Fraction(301, 300), (64, 64)),
    ],
)
def test_pixels_become_square_before_the_crop(files, pixel_aspect, size):
    def stretch(stream):
        stream.codec_context.sample_aspect_ratio = pixel_aspect

    write_pictures(files[0], [corners(64, 64)] * 10, setup=stretch)
    clip = load_clip(*files, Crop(0, 0, *size))
    assert clip.frame_size == size
    assert is_picture(stored(clip), corners(*size))


def test_a_stretched_picture_is_turned_too(files):
    def turn_and_stretch(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        stream.set_display_rotation(90)

    write_pictures(files[0], [corners(64, 64)] * 10, setup=turn_and_stretch)
    clip = load_clip(*files, Crop(0, 0, 128, 64))
    assert clip.frame_size == (128, 64)
    assert is_picture(stored(clip), np.rot90(corners(64, 128)))


@pytest.mark.parametrize("later", [(128, 192), (32, 48)])
def test_frames_that_change_size_get_the_size_of_the_first(files, later):
    write_pictures(files[0], [corners(64, 96)] * 5 + [corners(*later)] * 5)
    clip = load_clip(*files, Crop(0, 0, 64, 96))
    assert clip.frame_size == (64, 96)
    assert all(is_picture(stored(clip, index), corners(64, 96)) for index in range(10))


def test_frames_that_change_shape_are_refused(files):
    write_pictures(files[0], [corners(64, 96)] * 5 + [corners(96, 96)] * 5)
    assert reason_of(*files) == Reason.CHANGING_VIDEO


@pytest.mark.parametrize("fields", ["tff=1", "bff=1"])
def test_an_interlaced_picture_is_refused(files, fields):
    with av.open(str(files[0]), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": fields})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in grey_steps(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    assert reason_of(*files) == Reason.INTERLACED_VIDEO


def test_a_transparent_picture_is_refused(files):
    pictures = np.concatenate([grey_steps(10), np.full((10, 32, 48, 1), 255, np.uint8)], axis=3)
    write_pictures(files[0], pictures)
    assert numbers(load_clip(*files, SMALL)) == list(range(10))
    pictures[9, 20, 30, 3] = 0  # one pixel of one frame
    write_pictures(files[0], pictures)
    assert reason_of(*files) == Reason.TRANSPARENT_VIDEO


def write_tracks(path, tracks):
    """Writes tracks of pictures, each with its disposition."""
    with av.open(str(path), "w", format="mp4") as container:
        streams = [add_picture_track(container, pictures, codec) for pictures, _, codec in tracks]
        for stream, (_, disposition, _) in zip(streams, tracks, strict=True):
            stream.disposition = disposition
        for stream, (pictures, _, _) in zip(streams, tracks, strict=True):
            mux_pictures(container, stream, pictures)


def test_the_default_track_is_taken(files):
    dark = np.zeros((10, 32, 48, 3), np.uint8)
    write_tracks(files[0], [(dark, 0, "png"), (grey_steps(10), Disposition.default, "png")])
    assert numbers(load_clip(*files, SMALL)) == list(range(10))
    write_tracks(files[0], [(grey_steps(10), Disposition.default, "png"), (dark, 0, "png")])
    assert numbers(load_clip(*files, SMALL)) == list(range(10))


def test_a_cover_is_not_the_picture(files):
    cover = (np.full((1, 64, 96, 3), 255, np.uint8), Disposition.attached_pic, "mjpeg")
    write_tracks(files[0], [(grey_steps(10), Disposition.default, "png"), cover])
    with av.open(str(files[0])) as container:
        assert any(stream.disposition & Disposition.attached_pic for stream in container.streams.video)
    clip = load_clip(*files, SMALL)
    assert numbers(clip) == list(range(10))
    assert clip.frame_size == (32, 48)


def test_the_size_of_frames_is_reported(files):
    write_pictures(files[0], [corners(180, 320)] * 10)
    assert load_clip(*files, SMALL).frame_size == (180, 320)
