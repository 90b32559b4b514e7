"""The sections of a report, from what is missing to how its numbers are defined."""

from collections.abc import Sequence

from hicmae_jax.logs.goodput import SPLIT
from hicmae_jax.logs.words import duration
from hicmae_jax.studies import rates, report_pictures, report_table
from hicmae_jax.studies.attempts import BEGUN, DONE, FAILED, NOT_BEGUN
from hicmae_jax.studies.report_law import ScoreLaw
from hicmae_jax.studies.report_law_section import law_section
from hicmae_jax.studies.report_page import Block, Listing, Page, Paragraph, Section, Table
from hicmae_jax.studies.report_runs import ReportedRun

HEADS = {"flops": "FLOP", "examples": "clips", "probe_uar": "probe UAR", "run": "run"}
"""Column of the table of runs → heading, where they differ."""

DEFINITIONS = (
    "Loss: mean squared error of the reconstruction of masked picture and sound on held-out clips, added up, "
    "at the last evaluation. Laws are fitted to it. Total: the whole objective on these clips, with the "
    "contrastive loss.",
    "Parameters: all of pre-training, with decoders. FLOP: two for every multiplication and addition in "
    "matrix products, forward and backward, times the clips seen. A branch counts the clips of its trunk up "
    "to the branch, as if it had been trained from the start.",
    "Recall@5: retrieval between picture and sound on held-out clips, mean of both directions, of the best "
    "layer. Probe UAR: unweighted average recall of a linear classifier on frozen features.",
    "Law: L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022), by variable projection with Huber's cost "
    "on log loss. Intervals: pairs of N and D drawn with replacement, and all laws with acceptable "
    "exponents.",
    "Goodput: steps that were kept, times the median seconds of a step, as a share of the time from the "
    "first start to the end, over all restarts. What is lost: compilation, evaluations, checkpoints, slow "
    "steps, steps made again after a kill, and waiting for the next start.",
)


def page(title: str, runs: Sequence[ReportedRun], laws: Sequence[ScoreLaw]) -> Page:
    """Make the report.

    Args:
        title: its heading.
        runs: all runs.
        laws: laws of the loss and of the downstream scores.
    """
    loss, *downstream = laws
    sections = [
        Section("State", _state(runs)),
        law_section(loss, runs),
        Section("Runs", [_runs(runs)]),
        Section("Downstream scores", _downstream(runs)),
        *(law_section(law, runs) for law in downstream if any(law.score.of(run) is not None for run in runs)),
        *_rates(runs),
        Section("Learning curves", _training(runs)),
        Section("Goodput", _goodput(runs)),
        Section("Definitions", [Listing(DEFINITIONS)]),
    ]
    return Page(title, sections)


def counts(runs: Sequence[ReportedRun]) -> str:
    """How many runs are in which state, in one line."""
    states = {DONE: "finished", FAILED: "failed", BEGUN: "begun", NOT_BEGUN: "not begun"}
    found = [
        f"{count} {word}"
        for state, word in states.items()
        if (count := sum(run.state == state for run in runs))
    ]
    unfit = sum(run.state == DONE and run.unfit is not None for run in runs)
    also = f"; {unfit} of the finished ones unfit for a law" if unfit else ""
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}: {', '.join(found)}{also}"


def _state(runs: Sequence[ReportedRun]) -> list[Block]:
    blocks: list[Block] = [Paragraph(f"{counts(runs)}.")]
    missing = [line for run in runs if (line := _missing(run))]
    if missing:
        blocks += [
            Paragraph("The study is not finished. What is missing:", is_warning=True),
            Listing(missing),
        ]
    unfit = [f"{run.name}: {run.unfit}" for run in runs if run.state == DONE and run.unfit is not None]
    if unfit:
        blocks += [Paragraph("Left out of the laws, and drawn hollow:"), Listing(unfit)]
    return blocks


def _missing(run: ReportedRun) -> str:
    """What has become of a run that is not finished; empty for a finished one."""
    if run.state == DONE:
        return ""
    if run.state == NOT_BEGUN:
        return f"{run.name}: not begun"
    of_steps = f" of {run.planned_steps:,}" if run.planned_steps else ""
    at = f"at step {run.steps or 0:,}{of_steps}"
    if run.state == FAILED:
        return f"{run.name}: failed {at}: {run.failure or 'it has printed no message'}"
    return f"{run.name}: begun, {at}"


def _runs(runs: Sequence[ReportedRun]) -> Table:
    """Every run, without columns that are empty."""
    settings = report_table.differing(runs)
    columns = [
        column
        for column in report_table.COLUMNS
        if any(report_table.value(run, column) is not None for run in runs)
    ]
    columns.sort(key="unfit".__eq__)  # the last one, because it is long
    rows = []
    for index, run in enumerate(runs):
        cells = [report_table.shown(column, report_table.value(run, column)) for column in columns]
        of_settings = [of_runs[index] or "–" for of_runs in settings.values()]
        place = len(columns) - ("unfit" in columns)
        rows.append([*cells[:place], *of_settings, *cells[place:]])
    heads = [HEADS.get(column, column) for column in columns]
    place = len(columns) - ("unfit" in columns)
    faint = frozenset(index for index, run in enumerate(runs) if run.unfit is not None)
    return Table([*heads[:place], *settings, *heads[place:]], rows, faint)


def _downstream(runs: Sequence[ReportedRun]) -> list[Block]:
    pictures = report_pictures.of_downstream(runs)
    if pictures:
        return list(pictures)
    return [
        Paragraph(
            "No downstream score of two sizes or numbers of clips: the runs need evaluation.sets, or several "
            "sizes and lengths."
        )
    ]


def _rates(runs: Sequence[ReportedRun]) -> list[Section]:
    """The best learning rate of each size, if the runs differ in it."""
    points = [
        rates.RatePoint(
            report_pictures.group_of(run),
            run.settings.model.encoder_dim,
            run.settings.optimizer.base_rate,
            run.loss,
        )
        for run in runs
        if run.state == DONE and run.settings is not None and run.loss is not None
    ]
    if len({point.rate for point in points}) < 2:
        return []
    about = Paragraph("By a parabola in the logarithm of optimizer.base_rate; loss as in the laws.")
    return [Section("Learning rates", [about, Listing(rates.lines(points, "width of the encoders"))])]


def _training(runs: Sequence[ReportedRun]) -> list[Block]:
    return list(report_pictures.of_training(runs)) or [Paragraph("No run has logged anything yet.")]


def _goodput(runs: Sequence[ReportedRun]) -> list[Block]:
    picture = report_pictures.of_goodput(runs)
    rows = []
    for run in runs:
        for number, part in enumerate(run.goodput.parts if run.goodput else (), start=1):
            share = "–" if part.share is None else f"{part.share:.1%}"
            rows.append(
                [
                    run.name,
                    str(number),
                    f"{part.begun:%Y-%m-%d %H:%M:%S}",
                    f"{part.first_step:,}",
                    f"{part.kept_steps:,}",
                    duration(part.seconds),
                    "–" if part.pace is None else f"{part.pace:.3g} s",
                    share,
                    part.end,
                ]
            )
    if not rows:
        return [Paragraph("No run has begun to train.")]
    heads = ["run", "start", "time, UTC", "from step", "steps kept", "time", "a step", "progress", "end"]
    return [*([picture] if picture else []), Table(heads, rows), *_splits(runs)]


def _splits(runs: Sequence[ReportedRun]) -> list[Block]:
    """On what the time of each run was spent; runs without an account have only some of the kinds."""
    rows = [
        [run.name, duration(run.goodput.seconds), *(f"{part / run.goodput.seconds:.1%}" for part in split)]
        for run in runs
        if run.goodput is not None and run.goodput.seconds and (split := run.goodput.split.values())
    ]
    about = (
        "Shares of the whole time. Lost: steps that were made again. Down: the time without a "
        "process. Of a run without an account, training is estimated by its pace, and most else is rest."
    )
    return [Paragraph(about), Table(["run", "time", *SPLIT], rows)] if rows else []
