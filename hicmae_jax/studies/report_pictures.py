"""The figures of a report that need no law: downstream scores, learning curves, goodput."""

import io
from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from hicmae_jax.evaluation.figures import scaling
from hicmae_jax.evaluation.figures.scaling import Point
from hicmae_jax.studies.report_law import DOWNSTREAM, Score
from hicmae_jax.studies.report_page import Picture
from hicmae_jax.studies.report_runs import AUDIO, UAR, VIDEO, ReportedRun
from hicmae_jax.studies.report_table import amount

HOUR = 3600.0


def svg(figure: Figure) -> bytes:
    """A figure as SVG: the same bytes for the same figure."""
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "hicmae"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def group_of(run: ReportedRun) -> str:
    """Size and number of parameters of a run that has begun."""
    return f"{run.size}, {amount(run.parameters or 0)}"


def of_downstream(runs: Sequence[ReportedRun]) -> list[Picture]:
    """Each downstream score against clips and against size (paper figures 6 and 7).

    Args:
        runs: all runs.
    """
    found = []
    for score in DOWNSTREAM:
        against = (
            ("clips seen in training", lambda run: run.examples, group_of),
            ("parameters", lambda run: run.parameters, lambda run: f"{amount(run.examples or 0)} clips"),
        )
        for label, place, group in against:
            if points := _points(runs, score, place, group):
                meaning = "Lines join the means of seeds. Hollow: runs that are not fitted."
                caption = f"{capital(score.title)} against {label}. {meaning}"
                found.append(Picture(svg(scaling.draw_points(points, label, score.title)), caption))
    return found


def _points(
    runs: Sequence[ReportedRun],
    score: Score,
    place: Callable[[ReportedRun], int | None],
    group: Callable[[ReportedRun], str],
) -> list[Point]:
    """Runs that have a score; empty if they are all at one place, where there is nothing to see."""
    having = [run for run in runs if score.of(run) is not None and run.examples and run.parameters]
    having.sort(key=lambda run: (run.parameters or 0, run.examples or 0))
    points = [
        Point(float(place(run) or 0), float(score.of(run) or 0), group(run), run.unfit is None)
        for run in having
    ]
    return points if len({point.x for point in points}) > 1 else []


def of_training(runs: Sequence[ReportedRun]) -> list[Picture]:
    """Learning curves: held-out loss, training loss, and the scores that were measured on the way.

    Args:
        runs: all runs.
    """
    shown: list[tuple[str, Callable[[ReportedRun], Sequence[tuple[float, float]]]]] = [
        ("reconstruction loss, held out", lambda run: run.curve((VIDEO, AUDIO))),
        ("loss in training", lambda run: run.curve(("loss/total",))),
        ("recall@5, best layer", lambda run: run.recalls),
        ("UAR of the linear probe", lambda run: run.curve((UAR,))),
    ]
    found = []
    for title, curve in shown:
        histories: dict[str, list[tuple[str, Sequence[tuple[float, float]]]]] = {}
        for run in sorted(runs, key=lambda run: run.parameters or 0):
            places = [(x, y) for x, y in curve(run) if np.isfinite(y)]
            if places:
                histories.setdefault(group_of(run), []).append((run.name, places))
        if histories:
            figure = scaling.draw_histories(histories, "clips seen in training", title)
            found.append(Picture(svg(figure), f"{capital(title)}, of every run while it trained."))
    return found


def of_goodput(runs: Sequence[ReportedRun]) -> Picture | None:
    """The time of every run that has begun, by part; None if there is none.

    Args:
        runs: all runs.
    """
    parts = {
        run.name: [(part.seconds / HOUR, part.progress / HOUR) for part in run.goodput.parts]
        for run in runs
        if run.goodput is not None and run.goodput.share is not None
    }
    if not parts:
        return None
    caption = "Time of every run from its first start. A black line: the run was started again."
    return Picture(svg(scaling.draw_goodput(parts)), caption)


def capital(text: str) -> str:
    """Text as the beginning of a sentence."""
    return text[0].upper() + text[1:]
