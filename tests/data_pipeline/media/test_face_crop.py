"""The square that the model sees of a face: where it lies, and how it is cut out."""

import numpy as np
import pytest

from data_pipeline.media.face_crop import OUTSIDE, Square, crop_box, cut
from data_pipeline.media.video import Crop


def test_the_square_has_the_longer_side_and_the_centre_of_the_box():
    assert crop_box(np.array([10, 20, 40, 80])) == Square(left=-5, top=20, side=60)
    assert crop_box(np.array([10.5, 20, 90.5, 80])) == Square(left=10.5, top=10, side=80)


def test_an_empty_box_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        crop_box(np.array([10, 20, 10, 20]))


def test_it_is_the_part_that_the_published_code_cuts_out_of_a_frame_of_voxceleb2():
    """Extends the square of a box as the public tracking tool does, and scales that to 224 × 224 pixels."""
    square = crop_box(np.array([300, 100, 420, 260]))
    half = square.side / 2
    frame_left, frame_side = square.left + half - 1.4 * half, 2 * 1.4 * half
    scale = 224 / frame_side
    rows = np.array([square.top - square.top, square.side]) * scale
    columns = (np.array([square.left, square.left + square.side]) - frame_left) * scale
    np.testing.assert_allclose(rows, [Crop().top, Crop().top + Crop().height])
    np.testing.assert_allclose(columns, [Crop().left, Crop().left + Crop().width])


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_whole_pixels_are_copied():
    picture = noise(50, 60)
    np.testing.assert_array_equal(cut(picture, Square(7, 11, 32), 32), picture[11:43, 7:39])


@pytest.mark.parametrize(
    ("square", "seen"),
    [
        (Square(-8, 4, 32), np.s_[:, 8:]),
        (Square(4, -8, 32), np.s_[8:, :]),
        (Square(44, 4, 32), np.s_[:, :16]),
        (Square(4, 30, 32), np.s_[:20, :]),
    ],
)
def test_outside_the_picture_it_is_grey(square, seen):
    picture = noise(50, 60)
    part = cut(picture, square, 32)
    outside = np.ones((32, 32), bool)
    outside[seen] = False
    assert (part[outside] == OUTSIDE).all()
    rows, columns = slice(max(square.top, 0), square.top + 32), slice(max(square.left, 0), square.left + 32)
    np.testing.assert_array_equal(part[seen], picture[rows, columns])


@pytest.mark.parametrize("square", [Square(-90, 0, 32), Square(0, 200, 32), Square(70, 60, 8)])
def test_a_square_beside_the_picture_is_all_grey(square):
    assert (cut(noise(50, 60), square, 16) == OUTSIDE).all()


def test_places_between_pixels_are_followed():
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None] * 2, (100, 100, 3))
    whole, between = cut(ramp, Square(20, 20, 40), 40), cut(ramp, Square(20.5, 20, 40), 40)
    difference = between.astype(int) - whole
    assert (difference[:, 2:-2] == 1).all()  # half a pixel of the ramp


def test_a_smaller_result_is_antialiased():
    """Stripes of one pixel become even grey, not stripes again."""
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    part = cut(stripes, Square(20, 20, 150), 50)
    assert part.shape == (50, 50, 3)
    assert part.dtype == np.uint8
    assert np.abs(part[:, 1:-1].astype(int) - 127).max() < 32
