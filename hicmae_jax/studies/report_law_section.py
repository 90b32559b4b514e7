"""The sections of a report about its laws: the equation, how far to trust it, the next size, the figure."""

from collections.abc import Sequence

import numpy as np

from hicmae_jax.evaluation.figures import scaling
from hicmae_jax.evaluation.figures.scaling import Curve, Point
from hicmae_jax.studies import law_bootstrap, law_region
from hicmae_jax.studies.fitted_law import FittedLaw
from hicmae_jax.studies.law_held_out import HeldOut, front
from hicmae_jax.studies.report_law import ScoreLaw, also_differing
from hicmae_jax.studies.report_page import Block, Paragraph, Picture, Section, Table
from hicmae_jax.studies.report_pictures import capital, group_of, svg
from hicmae_jax.studies.report_runs import ReportedRun
from hicmae_jax.studies.report_table import amount

PLACES = 25
"""Places on a curve of the law."""
LEVEL = f"{law_bootstrap.LEVEL:.0%}"


def law_section(found: ScoreLaw, runs: Sequence[ReportedRun]) -> Section:
    """A law with its numbers, its check, its prediction and its figure.

    Args:
        found: the law, or why there is none.
        runs: all runs; those that are not fitted are drawn hollow.
    """
    title = f"Law of the {found.score.title}"
    picture = _picture(found, runs)
    pictures = [] if picture is None else [picture]
    if found.law is None:
        return Section(title, [Paragraph(f"There is no law: {found.missing}.", is_warning=True), *pictures])
    blocks: list[Block] = [
        Paragraph(_equation(found, found.law)),
        Paragraph(prediction_text(found)),
        *pictures,
    ]
    blocks += [_numbers(found.law), Paragraph(_check(found.law))]
    blocks += [Paragraph(f"{capital(line)}.", is_warning=True) for line in found.law.warnings()]
    if also := also_differing(found.runs):
        text = (
            f"The fitted runs also differ in {', '.join(also)}; the law mixes the effects of these settings."
        )
        blocks.append(Paragraph(text, is_warning=True))
    return Section(title, blocks)


def prediction_text(found: ScoreLaw) -> str:
    """One sentence or two about the next size; empty without a law."""
    size, prediction = found.next_size, found.prediction
    if size is None or prediction is None:
        return ""
    ends = sorted(_score(found, end) for end in prediction.interval)
    beyond = f"{prediction.beyond['parameters']:.3g} times the parameters of the largest run"
    return (
        f"Prediction: {size.name}, with {amount(size.parameters)} parameters and trained on "
        f"{prediction.examples:,.0f} clips, should reach a {found.score.title} of "
        f"{_score(found, prediction.loss):.4f}, with a {LEVEL} interval of {ends[0]:.4f} to {ends[1]:.4f}. "
        f"This is extrapolated: the model has {beyond}."
    )


def _score(found: ScoreLaw, fitted: float) -> float:
    """A value of the law as the score itself."""
    return fitted if found.score.falls else 1 - fitted


def _equation(found: ScoreLaw, law: FittedLaw) -> str:
    meaning = "" if found.score.falls else f" Here L is {found.score.fitted_title}."
    return (
        f"{law.fit.law.as_text()}, with N parameters and D clips, fitted to {len(found.runs)} runs. "
        f"A run lies {law.bootstrap.deviation:.2%} off the law.{meaning}"
    )


def _numbers(law: FittedLaw) -> Table:
    rows = []
    for name in law.numbers():
        interval, acceptable = law.bootstrap.interval_of(name), law.region.range_of(name)
        if interval and acceptable:
            ends = ["{:.4g} to {:.4g}".format(*both) for both in (interval, acceptable)]
            rows.append([name, f"{getattr(law.fit.law, name):.4g}", *ends])
    return Table(["number", "value", f"{LEVEL} interval", "acceptable"], rows)


def _check(law: FittedLaw) -> str:
    acceptable = (
        "Acceptable are the numbers of laws whose sum of squares exceeds the least one by at most "
        f"{law.region.tolerance:.0%}, the {law_region.LEVEL:.0%} limit of an F test."
    )
    if not isinstance(law.held_out, HeldOut):
        return f"{acceptable} No check on unseen runs: {law.held_out}."
    errors, count = law.held_out.errors(), len(law.held_out.runs)
    which = f"the {count} runs" if count > 1 else "the run"
    return (
        f"{acceptable} Check: fitted to the others, the law predicts {which} of most N · D with a mean error "
        f"of {errors['law']:.2%}. A power law in N · D alone errs by {errors['power law in compute']:.2%}, "
        f"and the best value of the others by {errors['no further gain']:.2%}."
    )


# --- Figure ---


def _picture(found: ScoreLaw, runs: Sequence[ReportedRun]) -> Picture | None:
    """The score against compute; None if no run has the score."""
    drawn = [
        (run, run.flops, found.score.fitted(value))
        for run in runs
        if (value := found.score.of(run)) is not None and np.isfinite(value) and run.flops
    ]
    if not drawn:
        return None
    drawn.sort(key=lambda one: one[0].parameters or 0)
    points = [Point(float(x), y, group_of(run), run.unfit is None) for run, x, y in drawn]
    fit = [point for point in points if point.fitted]
    best = front(np.array([one.x for one in fit]), np.array([one.y for one in fit]))
    curves = [] if found.law is None else _curves(found, found.law)
    figure = scaling.draw_law(
        points,
        curves,
        [(fit[index].x, fit[index].y) for index in best],
        "training compute, FLOP",
        found.score.fitted_title,
    )
    caption = f"{capital(found.score.fitted_title)} against compute. Hollow: runs that are not fitted."
    if curves:
        caption += (
            " Lines: the law of each size, dashed beyond its longest run. Dashed with a band: extrapolated "
            f"to {found.next_size.name if found.next_size else ''}, with the {LEVEL} interval of a run."
        )
    return Picture(svg(figure), caption)


def _curves(found: ScoreLaw, law: FittedLaw) -> list[Curve]:
    """The law for every size of the fitted runs and for the next size, over all numbers of clips."""
    clips = np.geomspace(law.points.examples.min(), law.points.examples.max(), PLACES)
    curves, seen = [], set()
    for run in found.runs:
        if run.parameters is None or run.flops_a_clip is None or run.parameters in seen:
            continue
        seen.add(run.parameters)
        longest = max(other.examples or 0 for other in found.runs if other.parameters == run.parameters)
        curves.append(
            Curve(
                clips * run.flops_a_clip,
                law.fit.law.loss(run.parameters, clips),
                group_of(run),
                longest * run.flops_a_clip * (1 + 1e-9),
            )
        )
    if found.next_size is not None:
        size = found.next_size
        predicted = [law.predict(size.parameters, float(count)) for count in clips]
        low, high = np.array([one.interval for one in predicted]).T
        losses = np.array([one.loss for one in predicted])
        group = f"{size.name}, extrapolated"
        curves.append(Curve(clips * size.flops_a_clip, losses, group, None, low, high))
    return curves
