"""All faults, and the table of their outcomes."""

import collections
from collections.abc import Sequence

from tests.chaos import disk_faults, host_faults, number_faults, process_faults
from tests.chaos.trials import Fault, Trial

FAULTS: dict[str, Fault] = {
    **process_faults.FAULTS,
    **disk_faults.FAULTS,
    **number_faults.FAULTS,
    **host_faults.FAULTS,
}
OF_DISKS = ("files may not grow", "disk full")
"""Faults that a run in a bucket cannot meet in the directory of the run."""
# These faults cost time and are tested elsewhere; only `make chaos` tries them: fault → where it is tested.
TESTED_ELSEWHERE: dict[str, str] = {
    "data worker hangs": "tests/supervision/test_deadline.py",
    "a file of the last checkpoint removed": "tests/checkpoints/test_faults.py",
    "a file of the last checkpoint cut by half": "tests/checkpoints/test_faults.py",
    "one of two hosts told another batch": "tests/end_to_end/test_hosts.py",
    "one of two hosts not started": "tests/end_to_end/test_hosts.py",
}
HEAD = ("fault", "times tried", "outcome", "lost steps")


def as_markdown(trials: Sequence[Trial]) -> str:
    rows = [HEAD, ("---",) * len(HEAD), *_rows(trials)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_text(trials: Sequence[Trial]) -> str:
    rows = [HEAD, *(tuple(cell.replace("<br>", ", ") for cell in row) for row in _rows(trials))]
    # The longest column comes last.
    return "\n".join(
        f"{fault:<42} {times:>11}  {lost:>10}  {outcome}" for fault, times, outcome, lost in rows
    )


def _rows(trials: Sequence[Trial]) -> list[tuple[str, ...]]:
    """One row for each fault."""
    by_fault: dict[str, list[Trial]] = {}
    for trial in trials:
        by_fault.setdefault(trial.fault, []).append(trial)
    return [_row(fault, of_it) for fault, of_it in by_fault.items()]


def _row(fault: str, trials: Sequence[Trial]) -> tuple[str, ...]:
    tried = [trial for trial in trials if not trial.untried]
    outcomes = collections.Counter(map(_outcome, trials))
    told = [outcome if len(outcomes) == 1 else f"{count} × {outcome}" for outcome, count in outcomes.items()]
    lost = sorted({trial.lost for trial in tried if trial.lost is not None})
    span = "–" if not lost else f"{lost[0]}" if len(lost) == 1 else f"{lost[0]} to {lost[-1]}"
    return fault, str(len(tried)), "<br>".join(told), span


def _outcome(trial: Trial) -> str:
    if trial.untried:
        return f"not tried: {trial.untried}"
    unexpected = [f"UNEXPECTED: {missed.splitlines()[0][:200]}" for missed in trial.missed]
    return "; ".join([*trial.happened, *unexpected])
