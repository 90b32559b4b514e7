"""What has become of the runs of a study, from their directories and from `attempts.json`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from data_pipeline.common import atomic_files
from hicmae_jax.logs import events
from hicmae_jax.studies import plan
from hicmae_jax.studies.plan import PlannedRun

FILE = "attempts.json"
DONE, FAILED, BEGUN, NOT_BEGUN = "done", "failed", "begun", "not begun"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """How a run that a sweep has started went.

    Attributes:
        state: `DONE`, `FAILED` or `BEGUN`.
        attempts: how often it was started and failed; a stop by a signal is no failure.
        code: exit code of the last attempt.
        line: the last line that it printed on stderr.
        seconds: time of all attempts.
    """

    state: str = BEGUN
    attempts: int = 0
    code: int = 0
    line: str = ""
    seconds: float = 0.0


class Attempts:
    """The file `attempts.json` of a study, read and rewritten.

    Args:
        root: directory of the study.

    Raises:
        ValueError: the file is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._found: dict[str, Attempt] = {}
        if self._path.exists():
            try:
                found = json.loads(self._path.read_text(encoding="utf-8"))
                self._found = {name: Attempt(**attempt) for name, attempt in found.items()}
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"{self._path} is damaged ({error}): delete it; finished runs stay"
                ) from None

    def __getitem__(self, name: str) -> Attempt:
        return self._found.get(name, Attempt())

    def __setitem__(self, name: str, attempt: Attempt) -> None:
        self._found[name] = attempt
        text = json.dumps({name: dataclasses.asdict(one) for name, one in self._found.items()}, indent=1)
        atomic_files.replace_text(self._path, text + "\n")


def is_finished(directory: Path) -> bool:
    """Whether the run in a directory has made its last step, by its events."""
    path = directory / events.FILE
    if not path.is_file():
        return False
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    ends = [event for line in lines if (event := _event(line)) in ("started", "stopped", "finished")]
    return bool(ends) and ends[-1] == "finished"


def state_of(root: Path, run: PlannedRun, attempts: Attempts) -> str:
    """What has become of a run: `DONE`, `FAILED`, `BEGUN` or `NOT_BEGUN`."""
    directory = plan.directory_of(root, run.name)
    if is_finished(directory):
        return DONE
    if attempts[run.name].state == FAILED:
        return FAILED
    return BEGUN if (directory / events.FILE).exists() else NOT_BEGUN


def check_runs_are_planned(root: Path, study: plan.Study) -> None:
    """Refuse directories under `runs` that are no run of the study.

    Raises:
        ValueError: names the first such directory.
    """
    runs = root / plan.RUNS
    planned = {run.name for run in study.runs}
    strange = (
        sorted(path.name for path in runs.iterdir() if path.name not in planned) if runs.is_dir() else []
    )
    if strange:
        raise ValueError(f"{runs / strange[0]} is no run of this study: move it elsewhere")


def _event(line: str) -> Any:
    try:
        return json.loads(line)["event"]
    except (ValueError, KeyError, TypeError):
        return None  # half a line of a process that was killed
