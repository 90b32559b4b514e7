"""Orders of a sum of gradients, against sums by hand."""

import numpy as np

from benchmarks import gradient_sums

ONE = np.ones(1, np.float32)


def test_small_parts_are_lost_beside_a_large_total():
    """bfloat16 has 8 digits: 256 + 1 is 256."""
    parts = np.stack([256 * ONE, *[ONE] * 15])
    assert gradient_sums.in_turn(parts) == [256]
    # The first row of the torus is 256; the others are 4 each.
    assert gradient_sums.on_torus(parts) == [268]
    assert gradient_sums.in_float32(parts) == [271]


def test_each_part_is_rounded_before_a_sum_in_bfloat16():
    parts = np.stack([(1 + 2**-9) * ONE, -ONE, 0 * ONE, 0 * ONE])
    assert gradient_sums.in_turn(parts) == gradient_sums.on_torus(parts) == [0]
    assert gradient_sums.in_float32(parts) == [2**-9]


def test_a_line_for_each_noise_and_order():
    header, rule, *lines = (line.strip("|").split("|") for line in gradient_sums.table(16, elements=2000))
    assert len(header) == len(rule) == 4
    assert len(lines) == len(gradient_sums.NOISE) * len(gradient_sums.ORDERS)
    for first in range(0, len(lines), 3):
        ring, torus, float32 = (float(line[2]) for line in lines[first : first + 3])
        assert ring > torus > 1e-3 > 1e-6 > float32 > 0
