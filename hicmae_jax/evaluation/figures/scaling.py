"""Figures of a scaling study: scores against clips and size, loss against compute with its law, goodput.

Each figure is one panel, so that a page can place several side by side or below each other. Runs that must
not be fitted are hollow.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from hicmae_jax.evaluation.figures.palette import COLOURS, style

SIZE = (5.8, 4.4)  # inches
LETTERS = 72  # in a line of a legend
FEW_DECADES = 2.5
"""On a shorter axis 2 and 5 times a power of ten are labelled too."""
GREY = "#8A8A8A"


@dataclasses.dataclass(frozen=True)
class Point:
    """A run in a figure.

    Attributes:
        x: place.
        y: value.
        group: of its colour and marker, such as the size.
        fitted: whether a law may be fitted to it.
    """

    x: float
    y: float
    group: str
    fitted: bool = True


@dataclasses.dataclass(frozen=True)
class Curve:
    """The law for one size.

    Attributes:
        x: places, ascending.
        y: values.
        group: of its colour.
        measured: largest place of a run of this group; beyond, the curve is dashed. None: all of it is.
        low: lower end of its interval; None without one.
        high: upper end.
    """

    x: np.ndarray
    y: np.ndarray
    group: str
    measured: float | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def draw_points(points: Sequence[Point], x_label: str, y_label: str) -> Figure:
    """Draw runs, and join the means of each group (paper figures 6 and 7).

    Args:
        points: at least one.
        x_label: of the logarithmic axis.
        y_label: of the other axis.

    Raises:
        ValueError: no run.
    """
    if not points:
        raise ValueError("no run to draw")
    figure, axes = _panel(x_label, y_label)
    for number, group in enumerate(_groups(points)):
        colour, marker = style(number)
        own = sorted((point for point in points if point.group == group), key=lambda point: point.x)
        axes.plot(*_means([point for point in own if point.fitted]), color=colour, linewidth=1.2, zorder=1)
        _scatter(axes, own, colour, marker, group)
    _log_axis(axes, [point.x for point in points])
    _legend(figure, axes)
    return figure


def _means(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Places, and the mean of the runs at each, such as those of several seeds."""
    of_place: dict[float, list[float]] = {}
    for point in points:
        of_place.setdefault(point.x, []).append(point.y)
    return list(of_place), [statistics.mean(values) for values in of_place.values()]


def draw_law(
    points: Sequence[Point],
    curves: Sequence[Curve],
    front: Sequence[tuple[float, float]],
    x_label: str,
    y_label: str,
) -> Figure:
    """Draw loss against compute with the law of each size and the Pareto front.

    Args:
        points: runs.
        curves: the law of each size; one whose group is no point's is a prediction.
        front: place and value of the runs that nothing cheaper beats, by place; may be empty.
        x_label: of the logarithmic axis.
        y_label: of the other axis.

    Raises:
        ValueError: no run.
    """
    if not points:
        raise ValueError("no run to draw")
    figure, axes = _panel(x_label, y_label)
    groups = _groups([*points, *(Point(0, 0, curve.group) for curve in curves)])
    for number, group in enumerate(groups):
        colour, marker = style(number)
        own = [point for point in points if point.group == group]
        _scatter(axes, own, colour, marker, group)
        for curve in (curve for curve in curves if curve.group == group):
            _draw_curve(axes, curve, colour, None if own else group)
    if len(front) > 1:
        x, y = zip(*front, strict=True)
        axes.step(x, y, where="post", color=GREY, linewidth=3, alpha=0.4, zorder=0, label="Pareto front")
    _log_axis(axes, [*(point.x for point in points), *(curve.x[-1] for curve in curves)])
    _legend(figure, axes)
    return figure


def draw_histories(
    histories: Mapping[str, Sequence[tuple[str, Sequence[tuple[float, float]]]]], x_label: str, y_label: str
) -> Figure:
    """Draw a value of every run while it trained, coloured by group.

    Args:
        histories: group → for each run its name, and places and values.
        x_label: of an axis.
        y_label: of the other axis.

    Raises:
        ValueError: no run.
    """
    if not any(histories.values()):
        raise ValueError("no run to draw")
    figure, axes = _panel(x_label, y_label)
    for number, (group, runs) in enumerate(histories.items()):
        for index, (_, places) in enumerate(runs):
            x, y = zip(*places, strict=True)
            axes.plot(
                x,
                y,
                color=style(number)[0],
                marker="." if len(x) < 20 else "",
                linewidth=1.1,
                alpha=0.8,
                label=None if index else group,
            )
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(EngFormatter())
    _legend(figure, axes)
    return figure


def draw_goodput(parts: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Draw the time of every run from its first start: what made progress and what was lost, by part.

    Args:
        parts: name of the run → hours and hours of progress of each part.

    Raises:
        ValueError: no run.
    """
    if not parts:
        raise ValueError("no run to draw")
    figure, axes = _panel("hours from the first start", "", height=1.4 + 0.34 * len(parts))
    for row, of_run in enumerate(parts.values()):
        left = 0.0
        for number, (hours, progress) in enumerate(of_run):
            first = row == number == 0
            axes.barh(row, progress, 0.6, left, color=COLOURS[2], label="progress" if first else None)
            axes.barh(
                row,
                hours - progress,
                0.6,
                left + progress,
                color=COLOURS[1],
                alpha=0.6,
                label="lost" if first else None,
            )
            if number:
                axes.plot([left, left], [row - 0.4, row + 0.4], color="black", linewidth=1.2)
            left += hours
    axes.set_yticks(range(len(parts)), [_short(name) for name in parts], fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9)
    return figure


# --- Parts ---


def _panel(x_label: str, y_label: str, height: float = SIZE[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label, fontsize=11)
    axes.set_ylabel(y_label, fontsize=11)
    axes.tick_params(labelsize=10)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _groups(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.group for point in points))


def _scatter(axes: Axes, points: Sequence[Point], colour: str, marker: str, group: str) -> None:
    for fitted in (True, False):
        own = [point for point in points if point.fitted is fitted]
        if own:
            axes.scatter(
                [point.x for point in own],
                [point.y for point in own],
                s=38,
                marker=marker,
                facecolors=colour if fitted else "none",
                edgecolors=colour,
                linewidths=1.4,
                label=group if fitted else f"{group}, unfit",
                zorder=3,
            )


def _draw_curve(axes: Axes, curve: Curve, colour: str, label: str | None) -> None:
    measured = -np.inf if curve.measured is None else curve.measured
    inside = curve.x <= measured
    axes.plot(curve.x[inside], curve.y[inside], color=colour, linewidth=1.2, zorder=2)
    # From the last measured place on, so that the two parts meet.
    first = max(int(inside.sum()) - 1, 0)
    axes.plot(curve.x[first:], curve.y[first:], "--", color=colour, linewidth=1.2, zorder=2, label=label)
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)


def _log_axis(axes: Axes, places: Sequence[float]) -> None:
    axes.set_xscale("log")
    decades = np.log10(max(places) / min(places))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < FEW_DECADES else (1,)))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: Axes) -> None:
    """Name the groups below the axes, where they hide no run."""
    _, names = axes.get_legend_handles_labels()
    if len(names) > 1:
        columns = max(1, min(len(names), LETTERS // (max(map(len, names)) + 6)))
        figure.legend(loc="outside lower center", fontsize=9, ncols=columns, frameon=False)


def _short(name: str, most: int = 34) -> str:
    """A name that fits beside a bar, and of which nothing is taken for a formula."""
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")
