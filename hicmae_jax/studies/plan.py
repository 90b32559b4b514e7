"""The plan of a study, kept in `study.json`: the runs, their settings, and which begins with which other one.

The directory of a study::

    <root>/study.json        the plan
    <root>/attempts.json     how each run that this study has started went; see `studies.attempts`
    <root>/runs/<name>/      the directory of a run; see `runs.session`
    <root>/logs/<name>.txt   what the run has printed
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from data_pipeline.common import atomic_files

FILE, RUNS, LOGS = "study.json", "runs", "logs"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        name: of the run and its directory.
        settings: dotted name → value, as one types it; `config` is the recipe.
        steps: number of steps to its end, with those of the trunk that a branch begins with; 0 if not known.
        kind: `run` begins with untrained parameters, `branch` with a checkpoint of another run.
        trunk: the run that a branch begins with.
        branch_step: step of that checkpoint.
        unfit: why a law must not be fitted to the run, in one line; None if it may be.
    """

    name: str
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    steps: int = 0
    kind: str = "run"
    trunk: str | None = None
    branch_step: int | None = None
    unfit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The run in types of JSON."""
        return dataclasses.asdict(dataclasses.replace(self, settings=dict(self.settings)))

    @property
    def new_steps(self) -> int:
        """Steps that the run itself makes."""
        return self.steps - (self.branch_step or 0)


@dataclasses.dataclass(frozen=True)
class Study:
    """All runs of a study.

    Attributes:
        runs: runs in the order in which they are started; a branch comes after its trunk.
        config: the recipe with the settings that all runs share, by dotted name.
    """

    runs: tuple[PlannedRun, ...]
    config: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ValueError: two runs have one name or the same settings, or a branch has no trunk before it.
        """
        if not self.runs:
            raise ValueError("the study has no run: give --grid or --table")
        by_settings: dict[str, str] = {}
        names: set[str] = set()
        for run in self.runs:
            if run.name in names:
                raise ValueError(f"two runs are named {run.name}: give names in the column name of --table")
            if run.trunk is not None and run.trunk not in names:
                raise ValueError(f"{run.name} branches from {run.trunk}, which does not come before it")
            key = json.dumps(dict(sorted(run.settings.items())))
            if key in by_settings:
                raise ValueError(f"{run.name} and {by_settings[key]} have the same settings: remove one")
            names.add(run.name)
            by_settings[key] = run.name

    def to_dict(self) -> dict[str, Any]:
        """The study in types of JSON."""
        return {
            "format": FORMAT,
            "config": dict(self.config),
            "runs": [run.to_dict() for run in self.runs],
        }


def directory_of(root: Path, name: str) -> Path:
    """Directory of a run of the study in `root`."""
    return root / RUNS / name


def read(root: Path) -> Study:
    """Read the plan of a study.

    Raises:
        ValueError: the directory has no plan, or the plan is damaged.
    """
    path = root / FILE
    if not path.is_file():
        raise ValueError(f"{root} is no study: it has no {FILE}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']}, not {FORMAT}")
        return Study(tuple(PlannedRun(**run) for run in found["runs"]), found["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the plan of a study ({error}): use a good copy") from None


def write(root: Path, study: Study) -> None:
    """Write the plan of a study, or add runs to a study that was begun.

    Args:
        root: a new or empty directory, or that of the same study with fewer runs.
        study: the plan.

    Raises:
        ValueError: the directory holds something else, or a study with other runs.
        OSError: the directory cannot be written.
    """
    if (root / FILE).exists():
        _check_continues(root, read(root), study)
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root} is not empty and has no {FILE}: give a new or empty directory")
    root.mkdir(parents=True, exist_ok=True)
    atomic_files.replace_text(root / FILE, json.dumps(study.to_dict(), indent=1) + "\n")


def _check_continues(root: Path, before: Study, now: Study) -> None:
    """Refuse a plan that lacks runs of the study that was begun, or changes them."""
    if dict(before.config) != dict(now.config):
        both = _changes(before.config, now.config)
        raise ValueError(f"{root} is a study with other settings ({both}): give another --root")
    planned = {run.name: run for run in now.runs}
    for run in before.runs:
        if run.name not in planned:
            raise ValueError(
                f"{root} is a study with the run {run.name}, which is not planned now: plan it too, or give "
                "another --root"
            )
        if run.to_dict() != planned[run.name].to_dict():
            raise ValueError(
                f"{root} is a study in which {run.name} has other settings "
                f"({_changes(run.to_dict(), planned[run.name].to_dict())}): give another --root"
            )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names)


def ready(run: PlannedRun, finished: Collection[str]) -> bool:
    """Whether a run can be started, because the run that it begins with is finished."""
    return run.trunk is None or run.trunk in finished
