"""The runs to which a law is fitted, and the file from which they are read."""

import csv
import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
from scipy import stats

PARAMETERS, EXAMPLES, LOSS, UNFIT = "parameters", "examples", "loss", "unfit"
AXES = (PARAMETERS, EXAMPLES)
SURE = 0.01
"""A loss that rises is refused if chance gives such ranks in fewer than this share of cases."""


@dataclasses.dataclass(frozen=True)
class Points:
    """Runs, one an entry.

    Attributes:
        parameters: float64[n], parameters of the model, N.
        examples: float64[n], clips seen in training, D.
        loss: float64[n].

    """

    parameters: np.ndarray
    examples: np.ndarray
    loss: np.ndarray

    @functools.cached_property
    def axes(self) -> tuple[str, ...]:
        """Of `AXES`, those in which the runs differ."""
        return tuple(name for name in AXES if len(np.unique(getattr(self, name))) > 1)

    @functools.cached_property
    def groups(self) -> np.ndarray:
        """int[n], the same number for runs with the same N and D, such as those of several seeds."""
        both = np.stack([self.parameters, self.examples], axis=1)
        return np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def numbers(self) -> int:
        """How many numbers the law of these runs has."""
        return 1 + 2 * len(self.axes)

    @property
    def compute(self) -> np.ndarray:
        """float64[n], N · D."""
        return self.parameters * self.examples

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, which: np.ndarray) -> "Points":
        """Some of the runs.

        Args:
            which: int or bool index of the runs.
        """
        return Points(self.parameters[which], self.examples[which], self.loss[which])

    def check(self) -> None:
        """Refuse runs to which no law can be fitted.

        Raises:
            ValueError: one line: too few runs of different N and D, or a loss that rises or is constant.
        """
        if not len(self):
            raise ValueError("there are no runs")
        if not self.axes:
            raise ValueError(f"all {len(self)} runs have one size and one number of examples: vary N or D")
        different = len(np.unique(self.groups))
        if different <= self.numbers:
            raise ValueError(
                f"{different} runs of different N and D are too few: the law has {self.numbers} numbers, so "
                f"it needs at least {self.numbers + 1}"
            )
        if np.ptp(self.loss) == 0:
            raise ValueError(f"all runs have the loss {self.loss[0]:g}: there is nothing to fit")
        rising = stats.spearmanr(self.compute, self.loss, alternative="greater")
        if rising.pvalue < SURE:
            raise ValueError(
                f"the loss rises with N · D (rank correlation {rising.statistic:.2f}), but the law describes "
                "what falls: of a score such as recall or UAR, give 1 - score"
            )


def read(path: Path) -> tuple[Points, int]:
    """Read a CSV file with the columns `parameters`, `examples` and `loss`; other columns do not count.

    Args:
        path: the file. A row with any text in the column `unfit` is left out.

    Returns:
        The runs, and how many rows were left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one line: a column is missing, a value is no positive number, or no law can be fitted.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from None
    names = (*AXES, LOSS)
    if lacking := [name for name in names if name not in (reader.fieldnames or ())]:
        raise ValueError(f"{path} has no column {lacking[0]}: it needs {', '.join(names)}")
    kept = [(line, row) for line, row in rows if not (row.get(UNFIT) or "").strip()]
    values = [[_number(path, line, name, row[name]) for name in names] for line, row in kept]
    points = Points(*np.array(values, np.float64).reshape(-1, len(names)).T)
    left_out = len(rows) - len(kept)
    try:
        points.check()
    except ValueError as error:
        also = f" ({left_out} rows are left out by the column {UNFIT})" if left_out else ""
        raise ValueError(f"{path}: {error}{also}") from None
    return points, left_out


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{path}, line {line}: {name} is {text.strip()!r}, not a positive number")
    return value
