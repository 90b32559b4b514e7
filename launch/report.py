"""Write a report of a study, or of any pre-training runs.

    python -m launch.report --study=studies/sizes --output=reports/sizes
    python -m launch.report --runs=runs/t,runs/s --output=reports/two

Writes into ``--output``:

================  ==========================================================================================
``report.html``   one page that opens without a network: every run with its cost and scores, the law of the
                  loss with the prediction of the next size, downstream scores against clips and size,
                  learning curves, goodput
``report.md``     the same without figures
``runs.csv``      a row for each run; `python -m hicmae_jax.studies.laws runs.csv` fits the law again
================  ==========================================================================================

The study need not be finished; the report then says what is missing. The same command writes it again.
"""

from pathlib import Path

from absl import flags

from hicmae_jax.studies import report, report_runs
from launch import command

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("study", None, "Directory of a study of launch.sweep.")
    flags.DEFINE_list("runs", None, "Directories of runs, separated by commas; quote one that has a comma.")
    flags.DEFINE_string("output", None, "Directory to write to.", required=True)


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    if (FLAGS.study is None) == (not FLAGS.runs):
        raise ValueError("give either --study or --runs: what the report is about")
    output = Path(FLAGS.output)
    report.check_output(output)
    if FLAGS.study is not None:
        runs, title = report_runs.of_study(Path(FLAGS.study)), f"Study {Path(FLAGS.study).resolve().name}"
    else:
        runs = report_runs.of_directories([Path(directory) for directory in FLAGS.runs])
        title = f"{len(runs)} runs" if len(runs) > 1 else f"Run {runs[0].name}"
    print("\n".join(report.write(runs, title, output)))
    return 0


if __name__ == "__main__":
    command.run("report", define_flags, main)
