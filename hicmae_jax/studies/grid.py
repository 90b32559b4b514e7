"""The points of a study: every combination of the values of its axes, or the rows of a table.

An axis is a setting and its values, `size=T,S,B`. A comma inside brackets does not separate two values:
`model.skip_layers=(2,3,4),(1,2,4)`. The axis `config` names recipes.
"""

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hicmae_jax.settings import schema

CONFIG = "config"
"""Name of the axis of recipes."""
NAME = "name"
"""Column of a table that names the runs."""

Point = Mapping[str, str]
"""Settings of one run: dotted name → value, as one types it."""

_COMMA = re.compile(r",(?![^()\[\]]*[)\]])")
_LONGEST_NAME = 100


def axes(words: Iterable[str], known: Iterable[str]) -> dict[str, list[str]]:
    """Read axes.

    Args:
        words: each `setting=value,value`.
        known: dotted names of all settings.

    Returns:
        Setting → values.

    Raises:
        ValueError: one line: an unknown setting, one that is given twice, no value or a value that is given
            twice.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        values = [value.strip() for value in _COMMA.split(text)]
        if not equals or "" in values:
            raise ValueError(f"--grid={word}: give a setting and its values, such as --grid=size=T,S,B")
        check_setting(f"--grid={word}", name, known)
        if name in found:
            raise ValueError(f"--grid={word}: {name} has values already; give all of them at once")
        if twice := [value for value, next_one in itertools.pairwise(sorted(values)) if value == next_one]:
            raise ValueError(f"--grid={word}: the value {twice[0]} is given twice")
        found[name] = values
    return found


def combinations(of_axes: Mapping[str, Sequence[str]]) -> list[Point]:
    """Every combination of the values of axes; the last axis changes first. No axis gives one point."""
    return [dict(zip(of_axes, values, strict=True)) for values in itertools.product(*of_axes.values())]


def table(path: Path, known: Iterable[str]) -> list[Point]:
    """Read a CSV file whose columns are settings and whose rows are runs; the column `name` is optional.

    An empty cell leaves the setting as the recipe has it.

    Args:
        path: the file.
        known: dotted names of all settings.

    Raises:
        ValueError: one line: an unknown setting, a column that is given twice, or no row.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    if len(rows) < 2:
        raise ValueError(f"{path}: no runs: the first line names settings, and each further line is a run")
    columns = [column.strip() for column in rows[0]]
    for place, column in enumerate(columns):
        if column != NAME:
            check_setting(f"{path}, line 1", column, known)
        if column in columns[:place]:
            raise ValueError(f"{path}, line 1: the column {column} is there twice")
    points: list[Point] = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise ValueError(f"{path}, line {number}: {len(row)} cells, but {len(columns)} columns")
        points.append({name: cell.strip() for name, cell in zip(columns, row, strict=True) if cell.strip()})
    return points


def check_setting(where: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is no setting.

    Raises:
        ValueError: one line that begins with `where` and names the nearest setting.
    """
    names = [*known, CONFIG]
    if name not in names:
        raise ValueError(f"{where}: there is no setting {name}; the nearest is {schema.nearest(name, names)}")


def name_of(point: Point) -> str:
    """A name for the directory of a run: its settings, as `size=T,steps=100`.

    Letters that a directory's name should not have become `-`. A name that is given counts.
    """
    if NAME in point:
        return _plain(point[NAME])
    parts = [f"{setting.rpartition('.')[2]}={value}" for setting, value in point.items()]
    return _plain(",".join(parts)) or "run"


def combined(rows: Sequence[Point], points: Sequence[Point]) -> list[Point]:
    """Every row of a table with every combination of the axes; a row's name comes before their values."""
    found: list[Point] = []
    for row, point in itertools.product(rows, points):
        name = {NAME: ",".join([row[NAME], *([name_of(point)] if point else [])])} if NAME in row else {}
        found.append({**row, **point, **name})
    return found


def _plain(text: str) -> str:
    return re.sub(r"[^\w=.,+-]+", "-", text).strip("-.")[:_LONGEST_NAME]


def settings_of(point: Point) -> dict[str, str]:
    """The settings of a point, without its name."""
    return {name: value for name, value in point.items() if name != NAME}
