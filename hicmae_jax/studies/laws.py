"""Fit a law to runs and predict the loss of a larger one.

    python -m hicmae_jax.studies.laws runs.csv --predict=1e9,2e10 --json=law.json

The CSV file has the columns `parameters`, `examples` and `loss`, and a row for each run; other columns do not
count. A row with any text in the column `unfit` is left out. `--predict` gives parameters and examples. The
law is `L(N, D) = E + A / N^alpha + B / D^beta`; see `law_fit` for how it is fitted, `law_bootstrap` for the
intervals, `law_region` for the exponents that fit about as well, and `law_held_out` for the check.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from data_pipeline.common import atomic_files
from data_pipeline.common.errors import one_line
from hicmae_jax.studies import law_bootstrap, law_points, law_region
from hicmae_jax.studies.fitted_law import FittedLaw, Prediction, fit_law
from hicmae_jax.studies.law_held_out import HeldOut


def summary(found: FittedLaw, prediction: Prediction | None, left_out: int = 0) -> str:
    """The law, how far to trust it, and the prediction, in a few lines."""
    law, left = found.fit.law, f", {left_out} left out as unfit" if left_out else ""
    lines = [
        f"law         {law.as_text()}",
        f"runs        {len(found.points)}{left}; a run lies {found.bootstrap.deviation:.2%} off the law",
    ]
    level = f"{law_bootstrap.LEVEL:.0%}"
    for name in found.numbers():
        interval, acceptable = found.bootstrap.interval_of(name), found.region.range_of(name)
        if interval and acceptable:
            lines.append(
                f"{name:11} {getattr(law, name):.4g}, {level} interval {_shown(interval)}, acceptable "
                f"{_shown(acceptable)}"
            )
    lines.append(
        "acceptable  exponents whose sum of squares exceeds the least one by at most "
        f"{found.region.tolerance:.0%}, the {law_region.LEVEL:.0%} limit of an F test"
    )
    lines += _of_held_out(found.held_out)
    if prediction is not None:
        lines += _of_prediction(prediction, level)
    return "\n".join([*lines, *(f"warning     {line}" for line in found.warnings())])


def _of_held_out(held_out: HeldOut | str) -> list[str]:
    if isinstance(held_out, str):
        return [f"check       {held_out}"]
    first, *others = (f"{name} {error:.2%}" for name, error in held_out.errors().items())
    count = len(held_out.runs)
    which = f"{count} largest runs" if count > 1 else "largest run"
    return [
        f"check       the {which}, predicted from the others: mean error of the {first}; {', '.join(others)}"
    ]


def _of_prediction(prediction: Prediction, level: str) -> list[str]:
    beyond = [
        f"{times:.3g} times the largest {name}" for name, times in prediction.beyond.items() if times > 1.0005
    ]
    return [
        f"prediction  {prediction.loss:.4f} for N = {prediction.parameters:.4g}, "
        f"D = {prediction.examples:.4g}" + (f", extrapolated: {', '.join(beyond)}" if beyond else ""),
        f"            {level} interval of the run's loss {_shown(prediction.interval)}, of the law "
        f"{_shown(prediction.interval_of_law)}",
    ]


def _shown(interval: tuple[float, float]) -> str:
    return "{:.4g} to {:.4g}".format(*interval)


# --- Command ---


class _Parser(argparse.ArgumentParser):
    """A parser whose error is one line, with exit code 1."""

    def error(self, message: str) -> NoReturn:
        print(f"laws: {message}", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="laws",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, help="CSV file of runs")
    parser.add_argument("--predict", help="parameters and examples of a run, such as 1e9,2e10")
    parser.add_argument("--json", type=Path, help="file to write the law to")
    return parser


def parse_run(text: str) -> tuple[float, float]:
    """Read `--predict`.

    Raises:
        ValueError: one line: not two positive numbers.
    """
    try:
        parameters, examples = (float(word) for word in text.split(","))
    except ValueError:
        parameters = examples = math.nan
    if not (0 < parameters < math.inf and 0 < examples < math.inf):
        raise ValueError(f"--predict={text}: give two positive numbers, parameters and examples: 1e9,2e10")
    return parameters, examples


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments; by default those of this process.

    Returns:
        The exit code.
    """
    arguments = _parser().parse_args(argv)
    try:
        asked = None if arguments.predict is None else parse_run(arguments.predict)
        if arguments.json is not None and not arguments.json.parent.is_dir():
            raise ValueError(f"--json={arguments.json}: there is no directory {arguments.json.parent}")
        points, left_out = law_points.read(arguments.file)
        found = fit_law(points)
        prediction = None if asked is None else found.predict(*asked)
        if arguments.json is not None:
            described = {**found.to_dict(), "left_out": left_out}
            if prediction is not None:
                described |= prediction.to_dict()
            atomic_files.replace_text(arguments.json, json.dumps(described, indent=1) + "\n")
    except (ValueError, OSError) as error:
        print(f"laws: {one_line(error)}", file=sys.stderr)
        return 1
    try:
        print(summary(found, prediction, left_out), flush=True)
    except BrokenPipeError:  # nobody reads on, as after `| head`; what is left must go somewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
