"""The shares of sets in the batches, against numbers by hand."""

import math

import pytest

from data_pipeline.reading.mixing import shares_of, weights_of


@pytest.mark.parametrize(
    ("clips", "temperature", "weights"),
    [
        ((1_000_000, 10_000, 7), 1.0, [1_000_000, 10_000, 7]),
        ((9_007_199_254_740_991, 1), 1.0, [9_007_199_254_740_991, 1]),
        ((400, 100, 25), 2.0, [20, 10, 5]),
        ((64, 27, 1), 3.0, [4, 3, 1]),  # 64 ** (1 / 3) is 3.9999999999999996
        ((10, 100), 0.5, [100, 10_000]),
        ((2, 3), 2.0, [1.414213562, 1.732050808]),
        ((1_000_000, 10_000, 7), math.inf, [1, 1, 1]),
    ],
)
def test_a_weight_is_a_root_of_the_clips(clips, temperature, weights):
    assert weights_of(clips, temperature) == weights


def test_shares_are_parts_of_one():
    assert shares_of([20, 10, 5, 5]) == [0.5, 0.25, 0.125, 0.125]
    # The example of docs/data.md.
    assert shares_of(weights_of((1_000_000, 10_000), 2)) == pytest.approx([10 / 11, 1 / 11])


def test_a_temperature_without_meaning_is_refused():
    with pytest.raises(ValueError, match=r"data\.temperature = 0\.001 is too low for a set of 300 clips"):
        weights_of((300, 2), 0.001)
