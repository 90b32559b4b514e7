from statistics import NormalDist

import numpy as np
import pytest

from data_pipeline.reading.randaugment import OPERATIONS, Operation, apply, draw
from tests.goldens import recipe
from tests.support import golden_cases
from tests.support.golden_check import assert_agrees
from tests.support.golden_clips import operation_names
from tests.support.paths import GOLDENS

GOLDEN = golden_cases.load(GOLDENS / "augmentation.npz")
FRAMES = recipe.video(GOLDEN.config["seed"], 1, 2, GOLDEN.config["size"])[0]
DRAWN = [draw(key) for key in range(4_000)]
APPLIED = [operation for operations in DRAWN for operation in operations]


def test_published_operations():
    assert operation_names(GOLDEN) == list(OPERATIONS)
    assert_agrees("augmentation", ("operations",))


def test_the_strongest_of_each_operation_can_be_applied():
    for name in OPERATIONS:
        for sign in (1, -1):
            made = apply(FRAMES, [Operation(name, 10.0, sign)])
            assert made.shape == FRAMES.shape
            assert made.dtype == np.uint8
    assert not apply(FRAMES, [Operation("Posterize", 10.0)]).any()  # 0 bits


def test_operations_follow_each_other():
    one, two = Operation("Solarize", 7.0), Operation("TranslateX", 7.0, -1)
    np.testing.assert_array_equal(apply(FRAMES, [one, two]), apply(apply(FRAMES, [one]), [two]))
    assert (apply(FRAMES, [one, two]) != apply(FRAMES, [two, one])).any()


def test_without_operations_the_frames_are_the_same_array():
    assert apply(FRAMES, ()) is FRAMES


def test_the_same_key_draws_the_same():
    assert draw(7) == draw(7)
    assert draw(2**128 - 1) != draw(7)
    # Philox's bits are the same in every version of NumPy and on every machine.
    rounded = [(name, round(magnitude, 6), sign) for name, magnitude, sign in draw(3)]
    assert rounded == [("TranslateY", 6.850969, -1), ("ShearX", 6.036442, 1), ("TranslateX", 8.002842, -1)]


def test_half_of_four_draws_are_applied():
    counts = np.bincount([len(operations) for operations in DRAWN], minlength=5) / len(DRAWN)
    np.testing.assert_allclose(counts, np.array([1, 4, 6, 4, 1]) / 16, atol=0.03)


def test_operations_and_signs_are_equally_likely():
    names, counts = np.unique([operation.name for operation in APPLIED], return_counts=True)
    assert set(names) == set(OPERATIONS)
    np.testing.assert_allclose(counts / len(APPLIED), 1 / 15, atol=0.012)
    assert np.mean([operation.sign == 1 for operation in APPLIED]) == pytest.approx(0.5, abs=0.025)


def test_magnitudes_are_normal():
    magnitudes = np.array([operation.magnitude for operation in APPLIED])
    normal = NormalDist(7, 0.5)
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.mean(magnitudes < normal.inv_cdf(quantile)) == pytest.approx(quantile, abs=0.02)


def test_what_is_drawn_is_independent():
    rank = {name: i for i, name in enumerate(OPERATIONS)}
    rows = [(rank[operation.name], operation.magnitude, operation.sign) for operation in APPLIED]
    correlation = np.corrcoef(np.array(rows).T)
    np.testing.assert_allclose(correlation, np.eye(3), atol=0.05)


def test_other_choices_of_the_draw():
    assert draw(0, probability=0.0) == ()
    assert len(draw(0, count=9, probability=1.0)) == 9
    wide = [operation.magnitude for key in range(200) for operation in draw(key, deviation=20.0)]
    assert (min(wide), max(wide)) == (0.0, 10.0)
    assert {operation.magnitude for key in range(20) for operation in draw(key, deviation=0.0)} == {7.0}


@pytest.mark.parametrize("frames", [FRAMES.astype(np.float32), FRAMES[0], FRAMES[..., :1]])
def test_other_frames_are_refused(frames):
    with pytest.raises(ValueError, match=r"RandAugment takes uint8\[T, H, W, 3\]"):
        apply(frames, [Operation("Invert", 7.0)])


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="unknown operation 'Blur'; choose from AutoContrast, Equalize"):
        apply(FRAMES, [Operation("Blur", 7.0)])
