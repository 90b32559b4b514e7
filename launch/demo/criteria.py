"""The criteria, fixed in advance, for a demo that has learned and resumed, and the page that shows them."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hicmae_jax.logs.words import duration

FEWEST_CLIPS = 64
"""Retrieval among fewer clips says too little."""
TIMES_CHANCE = 2
"""Recall must reach this multiple of chance."""
K = 5
"""Recall counts a partner among the first K clips."""
SAME_LOSS = 1e-3
"""Largest relative difference of two losses of the same step. Devices may sum in another order; another batch
or other parameters would change a loss by percents."""


class Criterion(NamedTuple):
    """One criterion and its outcome.

    Attributes:
        name: what was measured.
        holds: whether the criterion holds.
        measured: the numbers, and what they had to reach, in one line.
    """

    name: str
    holds: bool
    measured: str


class Resumption(NamedTuple):
    """How a killed run resumed.

    Attributes:
        killed_at: last step logged before the kill.
        checkpoint: step of the last whole checkpoint at that time.
        went_on_from: step from which the run printed that it goes on; None if it printed none.
        repeated: steps logged both before the kill and after it.
        largest_difference: largest relative difference between the two losses of a repeated step; 0 if no
            step was repeated.
        missing: steps that the finished log should have exactly once, and has not.
    """

    killed_at: int
    checkpoint: int
    went_on_from: int | None
    repeated: tuple[int, ...]
    largest_difference: float
    missing: tuple[int, ...]


def resumption(
    killed: Mapping[str, Any],
    printed: Sequence[str],
    lines: Sequence[Mapping[str, Any]],
    log_every: int,
    total_steps: int,
) -> Resumption:
    """Compare a run before and after it was killed.

    Args:
        killed: `step`, `checkpoint` and `loss` at the kill, as `KilledTraining.execute` returns them.
        printed: lines that the resumed command printed.
        lines: lines of the finished run's metrics.
        log_every: steps from one line to the next.
        total_steps: number of training steps.
    """
    matches = [re.match(r"going on +from step ([\d,]+) ", line) for line in printed]
    steps = [int(match[1].replace(",", "")) for match in matches if match]
    now = [(line["step"], line["loss/total"]) for line in lines if "loss/total" in line]
    before = {int(step): loss for step, loss in killed["loss"].items()}
    pairs = {step: (before[step], loss) for step, loss in now if step in before}
    logged = [step for step, _ in now]
    due = {*range(log_every, total_steps + 1, log_every), total_steps}
    return Resumption(
        killed_at=killed["step"],
        checkpoint=killed["checkpoint"],
        went_on_from=steps[0] if steps else None,
        repeated=tuple(sorted(pairs)),
        largest_difference=_largest(abs(a - b) / abs(a) for a, b in pairs.values()),
        missing=tuple(sorted(step for step in due if logged.count(step) != 1)),
    )


def torch_shares(printed: Sequence[str]) -> dict[str, float]:
    """The comparison with PyTorch that `launch.export` printed.

    Args:
        printed: lines of its output.

    Returns:
        Quantity → largest difference, as a share of the allowed one.

    Raises:
        ValueError: no comparison was printed.
    """
    begin = next((number for number, line in enumerate(printed) if line.startswith("compared ")), None)
    after = printed[begin + 1 :] if begin is not None else []
    rows = [
        line.rsplit(maxsplit=1) for line in itertools.takewhile(lambda line: line.startswith("  "), after)
    ]
    if not rows:
        raise ValueError("launch.export has printed no comparison with PyTorch: does it write a folder?")
    return {name.strip(): float(share) for name, share in rows}


def last_layer(scores: Mapping[str, Any]) -> str:
    """Name of the deepest layer that was scored, such as `layer 6`: the one whose retrieval counts."""
    return max(scores["retrieval"]["trained"], key=lambda name: int(name.split()[1]))


def criteria(
    scores: Mapping[str, Any], resumed: Resumption, shares: Mapping[str, Mapping[str, float]]
) -> list[Criterion]:
    """Check all criteria.

    Args:
        scores: contents of the JSON file that `launch.evaluate` wrote.
        resumed: how the killed run resumed.
        shares: exported folder → what `torch_shares` returns for it.
    """
    found = [_retrieval(scores)]
    found += [_reconstruction(scores["reconstruction"], kind) for kind in ("video", "audio")]
    return [*found, _resumed(resumed), *(_torch(name, share) for name, share in shares.items())]


def _largest(values: Iterable[float]) -> float:
    """The largest of some numbers, NaN if one of them is; 0 if there are none."""
    return max(values, key=lambda value: (math.isnan(value), value), default=0.0)


def _retrieval(scores: Mapping[str, Any]) -> Criterion:
    layer = last_layer(scores)
    result = scores["retrieval"]["trained"][layer]["mean"][f"recall@{K}"]
    clips, needed = scores["clips"], TIMES_CHANCE * result["chance"]
    return Criterion(
        f"recall@{K}, {layer}",
        clips >= FEWEST_CLIPS and result["recall"] >= needed and result["low"] > result["chance"],
        f"{result['recall']:.1%} ({result['low']:.1%}–{result['high']:.1%}) of {clips} clips; "
        f"chance {result['chance']:.1%}, needed {needed:.1%}",
    )


def _reconstruction(errors: Mapping[str, Mapping[str, float]], kind: str) -> Criterion:
    trained = errors["trained"][kind]
    others = {name: error[kind] for name, error in errors.items() if name != "trained"}
    compared = ", ".join(f"{name} {error:.3f}" for name, error in others.items())
    return Criterion(f"masked {kind} error", trained < min(others.values()), f"{trained:.3f}; {compared}")


def _resumed(resumed: Resumption) -> Criterion:
    right_step = resumed.went_on_from == resumed.checkpoint > 0
    difference = resumed.largest_difference
    same = f"losses within {difference:.0e}" if difference else "the same losses"
    again = f"{len(resumed.repeated)} logged steps again, {same}"
    missing = ", ".join(map(str, resumed.missing))
    lost = f"; steps not logged exactly once: {missing}" if missing else ""
    return Criterion(
        "killed and resumed",
        right_step and not resumed.missing and resumed.largest_difference <= SAME_LOSS,
        f"at {resumed.killed_at}, from {resumed.went_on_from} (last checkpoint {resumed.checkpoint}); "
        f"{again}{lost}",
    )


def _torch(name: str, shares: Mapping[str, float]) -> Criterion:
    worst = _largest(shares.values())
    return Criterion(f"{name} in PyTorch", worst <= 1, f"largest difference {worst:.2%} of what is allowed")


def page(found: Sequence[Criterion], seconds: Mapping[str, float], files: Mapping[str, Sequence[str]]) -> str:
    """The summary for a terminal.

    Args:
        found: criteria and their outcomes.
        seconds: stage → time that it took.
        files: kind of file → names.
    """
    width = max(map(len, [*seconds, *files, *(criterion.name for criterion in found)])) + 2
    lines = ["", "time"]
    lines += [f"  {name:{width}}{duration(took):>12}" for name, took in seconds.items()]
    lines += [f"  {'in all':{width}}{duration(sum(seconds.values())):>12}", "", "files"]
    lines += [f"  {kind:{width}}{', '.join(names)}" for kind, names in files.items()]
    lines += ["", "does it hold?"]
    lines += [
        f"  {criterion.name:{width}}{'yes' if criterion.holds else 'NO':5}{criterion.measured}"
        for criterion in found
    ]
    return "\n".join(lines)
