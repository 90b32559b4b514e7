"""The best learning rate of each size, from runs that differ in `optimizer.base_rate`, and whether it moves.

The loss is a parabola in the logarithm of the rate near its minimum. So three runs that surround the minimum
tell it better than the lowest run alone.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class RatePoint(NamedTuple):
    """One run of a sweep over rates.

    Attributes:
        size: name of its size.
        amount: width or number of parameters of the size, whatever the optima are compared with.
        rate: `optimizer.base_rate`.
        loss: its last loss; not finite if the run has diverged.
    """

    size: str
    amount: float
    rate: float
    loss: float


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best rate of one size.

    Attributes:
        rate: where the parabola has its minimum; None if it has none, or one far outside the sweep.
        loss: of the parabola at `rate`; without it, the lowest loss of the sweep.
        swept: lowest and highest rate of the runs that have not diverged.
        lowest: rate of the run with the lowest loss.
        step: largest factor from one of the three rates to the next.
        diverged: number of runs that were left out because their loss is not finite.
    """

    rate: float | None
    loss: float
    swept: tuple[float, float]
    lowest: float
    step: float
    diverged: int = 0

    @property
    def inside(self) -> bool:
        """Whether the best rate lies in the swept range; otherwise it is extrapolated."""
        return self.rate is not None and self.swept[0] <= self.rate <= self.swept[1]


@dataclasses.dataclass(frozen=True)
class Trend:
    """How the best rate changes with the size: rate ∝ amount^slope, by least squares of logarithms.

    Attributes:
        slope: 0 if all sizes have the same best rate, −1 if it falls in inverse proportion.
        error: standard error of the slope; None for two sizes, which a line always fits.
        change: factor of the best rate from the smallest size to the largest, by the line.
        step: largest step of the sweeps, a factor.
    """

    slope: float
    error: float | None
    change: float
    step: float

    @property
    def moves(self) -> bool:
        """Whether the best rate changes by more than one step of the sweeps."""
        return abs(math.log(self.change)) > math.log(self.step)


def optimum(rates: Sequence[float], losses: Sequence[float]) -> Optimum:
    """Find the best rate by a parabola through the lowest loss and its neighbours.

    Runs of one rate, such as those of several seeds, count as one run with their mean loss. If the lowest
    loss is at an end of the sweep, the parabola goes through the three runs at this end.

    Args:
        rates: learning rates, positive, in any order.
        losses: loss of each run; runs with a loss that is not finite are left out.

    Raises:
        ValueError: one line: fewer than three different rates, equal losses, or a rate that is not positive.
    """
    rate, loss = np.asarray(rates, np.float64), np.asarray(losses, np.float64)
    if rate.shape != loss.shape or rate.ndim != 1:
        raise ValueError(f"{rate.size} rates and {loss.size} losses: give one loss for each rate")
    if not (np.isfinite(rate) & (rate > 0)).all():
        raise ValueError("a learning rate is not above 0")
    finite = np.isfinite(loss)
    different, which = np.unique(rate[finite], return_inverse=True)
    if len(different) < 3:
        left_out = f", and {(~finite).sum()} diverged" if not finite.all() else ""
        raise ValueError(
            f"{len(different)} different rates with a finite loss{left_out}: a parabola needs at least 3"
        )
    mean = np.bincount(which, loss[finite]) / np.bincount(which)
    if np.ptp(mean) == 0:
        raise ValueError(f"the loss is {mean[0]:g} at every rate: there is no best one")
    best = int(np.argmin(mean))
    middle = min(max(best, 1), len(mean) - 2)
    three = slice(middle - 1, middle + 2)
    found, value = _vertex(np.log(different[three]), mean[three])
    return Optimum(
        rate=None if found is None else float(np.exp(found)),
        loss=float(mean[best]) if found is None else value,
        swept=(float(different[0]), float(different[-1])),
        lowest=float(different[best]),
        step=float(max(different[three][1:] / different[three][:-1])),
        diverged=int((~finite).sum()),
    )


def _vertex(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float]:
    """The minimum of a parabola through three points; None if it has none within their span around them."""
    first, second = np.diff(y) / np.diff(x)
    curvature = (second - first) / (x[2] - x[0])
    if curvature <= 0:
        return None, math.nan
    at = (x[0] + x[1]) / 2 - first / (2 * curvature)
    if not 2 * x[0] - x[2] <= at <= 2 * x[2] - x[0]:
        return None, math.nan
    return float(at), float(y[0] + first * (at - x[0]) + curvature * (at - x[0]) * (at - x[1]))


def trend(amounts: Sequence[float], optima: Sequence[Optimum]) -> Trend:
    """Find how the best rate changes with the size; optima outside their sweep are left out.

    Args:
        amounts: width or number of parameters of each size.
        optima: best rate of each size.

    Raises:
        ValueError: one line: fewer than two different amounts with an optimum inside the sweep.
    """
    used = [(amount, found) for amount, found in zip(amounts, optima, strict=True) if found.inside]
    different = sorted({amount for amount, _ in used})
    if len(different) < 2:
        raise ValueError(
            f"the best rate is inside the sweep for {len(different)} of {len(set(amounts))} sizes: to see "
            "whether it moves takes 2"
        )
    x = np.log([amount for amount, _ in used])
    y = np.log(np.asarray([found.rate for _, found in used], np.float64))
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    left, free = y - y.mean() - slope * centred, len(x) - 2
    error = math.sqrt(left @ left / free / (centred @ centred)) if free else None
    change = math.exp(slope * math.log(different[-1] / different[0]))
    return Trend(slope, error, change, max(found.step for _, found in used))


def by_size(points: Iterable[RatePoint]) -> Mapping[str, list[RatePoint]]:
    """The runs of each size, sizes in the order of their amounts."""
    ordered = sorted(points, key=lambda point: (point.amount, point.size, point.rate))
    return {size: list(runs) for size, runs in itertools.groupby(ordered, key=lambda point: point.size)}


def lines(points: Iterable[RatePoint], amount: str = "width") -> list[str]:
    """Lines of text for a report: the best rate of each size, then whether it moves.

    Args:
        points: runs of one or several sizes.
        amount: what `RatePoint.amount` is, in words.
    """
    text, amounts, optima = [], [], []
    for size, runs in by_size(points).items():
        try:
            found = optimum([run.rate for run in runs], [run.loss for run in runs])
        except ValueError as error:
            text.append(f"{size}: {error}")
            continue
        text.append(f"{size}: {_of_size(found)}")
        amounts.append(runs[0].amount)
        optima.append(found)
    try:
        text.append(_of_trend(trend(amounts, optima), amount))
    except ValueError as error:
        text.append(str(error))
    return text


def _of_size(found: Optimum) -> str:
    low, high = found.swept
    swept = f"swept {low:.3g} to {high:.3g}"
    if found.diverged:
        swept += f", {found.diverged} diverged"
    if found.inside:
        return f"best rate {found.rate:.3g}, loss {found.loss:.4g} ({swept})"
    if found.lowest not in found.swept:
        return f"no parabola fits around the lowest run, {found.lowest:.3g}, loss {found.loss:.4g} ({swept})"
    guess = f", perhaps {found.rate:.3g}" if found.rate is not None else ""
    where = "higher" if found.lowest == high else "lower"
    return f"best rate {where} than the sweep{guess}: sweep {where} rates ({swept})"


def _of_trend(found: Trend, amount: str) -> str:
    error = "" if found.error is None else f" ± {found.error:.2f}"
    slope = f"rate ∝ {amount}^{found.slope:.2f}{error} (0: the same for all; -1: in inverse proportion)"
    if found.moves:
        return f"the best rate changes by a factor of {found.change:.2g} over the sizes: {slope}"
    return (
        f"the sweeps do not show that the best rate moves: it changes by a factor of {found.change:.2g} over "
        f"the sizes, less than one step of the sweep, {found.step:.2g}; {slope}"
    )
