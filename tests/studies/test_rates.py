"""Best rates that were planted in losses are found, and so is how they move with the size."""

import math

import numpy as np
import pytest

from hicmae_jax.studies import rates
from hicmae_jax.studies.rates import RatePoint

SWEEP = [1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3]


def losses(best, sweep=SWEEP, curvature=0.1, lowest=0.5):
    """A parabola in log rate with its minimum at `best`."""
    return [lowest + curvature * math.log(rate / best) ** 2 for rate in sweep]


@pytest.mark.parametrize("best", [1.3e-4, 3e-4, 4e-4, 1.5e-3])
def test_a_planted_best_rate_is_found(best):
    found = rates.optimum(SWEEP, losses(best))
    assert found.rate == pytest.approx(best, rel=1e-9)
    assert found.loss == pytest.approx(0.5)
    assert found.inside
    assert found.step == pytest.approx(2)
    assert found.swept == (1e-4, 1.6e-3)


def test_runs_may_be_in_any_order_and_at_uneven_rates():
    sweep = [5e-3, 1e-4, 3e-4, 4e-4]
    found = rates.optimum(sweep, losses(3.3e-4, sweep))
    assert found.rate == pytest.approx(3.3e-4)
    assert found.step == pytest.approx(3)  # of the three runs around the minimum


def test_only_the_neighbours_of_the_lowest_run_count():
    """Far from the minimum a loss is no parabola."""
    far = losses(4e-4)
    far[0], far[-1] = 7.0, 9.0
    assert rates.optimum(SWEEP, far).rate == pytest.approx(4e-4)


def test_runs_of_one_rate_count_as_their_mean():
    noisy = [loss + noise for loss in losses(3e-4) for noise in (-0.02, 0.02)]
    assert rates.optimum(np.repeat(SWEEP, 2), noisy).rate == pytest.approx(3e-4)


@pytest.mark.parametrize("best", [5e-5, 3e-3])
def test_a_best_rate_a_little_outside_is_extrapolated(best):
    found = rates.optimum(SWEEP, losses(best))
    assert found.rate == pytest.approx(best)
    assert not found.inside


@pytest.mark.parametrize(("best", "lowest"), [(1e-7, 1e-4), (1.0, 1.6e-3)])
def test_a_best_rate_far_outside_has_no_value(best, lowest):
    found = rates.optimum(SWEEP, losses(best))
    assert (found.rate, found.inside, found.lowest) == (None, False, lowest)


def test_a_loss_without_a_minimum_has_no_best_rate():
    found = rates.optimum(SWEEP, [0.9, 0.89, 0.85, 0.7, 0.2])
    assert (found.rate, found.inside, found.loss) == (None, False, 0.2)


def test_diverged_runs_are_left_out_and_counted():
    sweep, values = [*SWEEP, 3.2e-3, 6.4e-3], [*losses(1e-3), math.nan, math.inf]
    found = rates.optimum(sweep, values)
    assert found.rate == pytest.approx(1e-3)
    assert (found.swept[1], found.diverged) == (1.6e-3, 2)


@pytest.mark.parametrize(
    ("sweep", "values", "line"),
    [
        ([1e-4, 2e-4], [1, 2], "2 different rates with a finite loss: a parabola needs at least 3"),
        ([1e-4] * 5, [1, 2, 3, 4, 5], "1 different rates"),
        ([1e-4, 2e-4, 4e-4], [1, 2, math.nan], "2 different rates with a finite loss, and 1 diverged"),
        ([], [], "0 different rates"),
        (SWEEP, [0.5] * 5, "the loss is 0.5 at every rate"),
        ([0.0, 1e-4, 2e-4], [1, 2, 3], "a learning rate is not above 0"),
        (SWEEP, [1, 2], "5 rates and 2 losses: give one loss for each rate"),
    ],
)
def test_a_sweep_that_tells_nothing_is_one_line(sweep, values, line):
    with pytest.raises(ValueError, match=line):
        rates.optimum(sweep, values)


WIDTHS = (256, 384, 512, 1024)


def optima(slope, noise=(0.0,) * 4):
    best = [6e-4 * (width / 256) ** slope * math.exp(extra) for width, extra in zip(WIDTHS, noise)]
    return [rates.optimum(SWEEP, losses(rate)) for rate in best]


@pytest.mark.parametrize("slope", [-1.0, -0.75, 0.6])
def test_a_planted_slope_is_found(slope):
    found = rates.trend(WIDTHS, optima(slope))
    assert found.slope == pytest.approx(slope, abs=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9)
    assert found.change == pytest.approx(4**slope)
    assert found.moves


def test_noise_widens_the_error_of_the_slope():
    found = rates.trend(WIDTHS, optima(-0.5, (0.1, -0.1, 0.1, -0.1)))
    assert 0.05 < found.error < 0.3
    assert abs(found.slope + 0.5) < 2 * found.error


def test_less_than_a_step_of_the_sweep_is_no_movement():
    assert not rates.trend(WIDTHS, optima(-0.4)).moves  # a factor of 1.7, and the step is 2
    assert rates.trend(WIDTHS, optima(-0.6)).moves


def test_optima_outside_their_sweep_do_not_bend_the_line():
    found = [*optima(-0.5), rates.optimum(SWEEP, losses(5e-5)), rates.optimum(SWEEP, losses(1.0))]
    assert rates.trend((*WIDTHS, 2048, 4096), found).slope == pytest.approx(-0.5)


def test_two_sizes_give_a_slope_without_an_error():
    found = rates.trend(WIDTHS[::3], optima(-1.0)[::3])
    assert (found.slope, found.error) == (pytest.approx(-1.0), None)


def test_one_size_tells_no_trend():
    with pytest.raises(ValueError, match="inside the sweep for 1 of 1 sizes: to see whether"):
        rates.trend((256, 256), [optima(0.0)[0]] * 2)


def runs(size, width, best, sweep=SWEEP):
    return [RatePoint(size, width, rate, loss) for rate, loss in zip(sweep, losses(best, sweep))]


def test_the_lines_name_each_size_in_order_and_the_trend():
    points = [
        *runs("B", 512, 3e-4),
        *runs("T", 256, 4e-4),
        *runs("S", 384, 4e-4, SWEEP[:2]),
        *runs("H", 1024, 9.0),
    ]
    *sizes, trend = rates.lines(points)
    assert sizes == [
        "T: best rate 0.0004, loss 0.5 (swept 0.0001 to 0.0016)",
        "S: 2 different rates with a finite loss: a parabola needs at least 3",
        "B: best rate 0.0003, loss 0.5 (swept 0.0001 to 0.0016)",
        "H: best rate higher than the sweep: sweep higher rates (swept 0.0001 to 0.0016)",
    ]
    assert trend == (
        "the sweeps do not show that the best rate moves: it changes by a factor of 0.75 over the sizes, "
        "less than one step of the sweep, 2; rate ∝ width^-0.42 (0: the same for all; -1: in inverse "
        "proportion)"
    )


def test_the_lines_say_where_to_sweep_and_what_diverged():
    (line, _) = rates.lines([*runs("B", 512, 8e-5), RatePoint("B", 512, 1.0, math.nan)])
    assert line == (
        "B: best rate lower than the sweep, perhaps 8e-05: sweep lower rates (swept 0.0001 to 0.0016, 1 "
        "diverged)"
    )


def test_the_lines_say_that_the_best_rate_moves():
    points = [point for width in WIDTHS for point in runs(str(width), width, 6e-4 * 256 / width)]
    assert rates.lines(points, "N")[-1] == (
        "the best rate changes by a factor of 0.25 over the sizes: rate ∝ N^-1.00 ± 0.00 (0: the same for "
        "all; -1: in inverse proportion)"
    )


def test_the_lines_of_one_size_and_of_none():
    end = "to see whether it moves takes 2"
    assert rates.lines(runs("B", 512, 2e-4))[1:] == [
        f"the best rate is inside the sweep for 1 of 1 sizes: {end}"
    ]
    assert rates.lines([]) == [f"the best rate is inside the sweep for 0 of 0 sizes: {end}"]
