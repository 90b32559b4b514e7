"""Writes the report of a study, or of any runs: `report.html`, `report.md` and `runs.csv`."""

from collections.abc import Sequence
from pathlib import Path

from data_pipeline.common import atomic_files
from hicmae_jax.studies import report_sections, report_table
from hicmae_jax.studies.report_html import page_html
from hicmae_jax.studies.report_law import DOWNSTREAM, LOSS, ScoreLaw, law_of
from hicmae_jax.studies.report_law_section import prediction_text
from hicmae_jax.studies.report_markdown import markdown
from hicmae_jax.studies.report_runs import ReportedRun

HTML, MARKDOWN, CSV = "report.html", "report.md", "runs.csv"


def check_output(output: Path) -> None:
    """Refuse a directory that holds something else than a report.

    Raises:
        ValueError: names the directory, and what is in it.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output={output} is not a directory: give another one")
    others = {path.name for path in output.iterdir()} - {HTML, MARKDOWN, CSV} if output.exists() else set()
    if others:
        raise ValueError(f"--output={output} holds something else ({min(others)}): give a new directory")


def write(runs: Sequence[ReportedRun], title: str, output: Path) -> list[str]:
    """Write the report.

    Args:
        runs: at least one.
        title: heading of the report.
        output: directory, made if it is missing.

    Returns:
        The lines that sum it up.

    Raises:
        OSError: a file cannot be written.
    """
    laws = [law_of(score, runs) for score in (LOSS, *DOWNSTREAM)]
    page = report_sections.page(title, runs, laws)
    texts = {HTML: page_html(page), MARKDOWN: markdown(page), CSV: report_table.as_csv(runs)}
    output.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        atomic_files.replace_text(output / name, text)
    return [
        f"runs        {report_sections.counts(runs)}",
        *_law_lines(laws[0]),
        f"written     {output}: {', '.join(texts)}",
    ]


def _law_lines(found: ScoreLaw) -> list[str]:
    if found.law is None:
        return [f"no law      {found.missing}"]
    prediction = prediction_text(found).removeprefix("Prediction: ")
    return [f"law         {found.law.fit.law.as_text()}", f"predicted   {prediction}"]
