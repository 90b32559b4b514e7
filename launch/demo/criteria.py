"""What a demo has to show: whether it learned, by criteria set beforehand, as a page and as JSON."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FEWEST_CLIPS = 64
TIMES_CHANCE = 2
K = 5
SAME_LOSS = 1e-3
"""Relative difference of two losses of the same step. Devices may add in another order; another batch, or
other parameters, change a loss by percents."""


class Criterion(NamedTuple):
    """Something that must hold.

    Attributes:
        name: what is looked at.
        holds: whether it does.
        measured: the numbers, and what was asked of them, in one line.
    """

    name: str
    holds: bool
    measured: str


class Resumption(NamedTuple):
    """How a killed run went on.

    Attributes:
        killed_at: last step logged before the kill.
        checkpoint: step of the last whole checkpoint then.
        went_on_from: step that the run said it went on from; None if it said nothing.
        repeated: steps logged both before the kill and after it.
        largest_difference: of the two losses of a repeated step, relative; 0 if none was repeated.
        missing: steps that ought to be logged once in the end and are not.
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
        killed: `step`, `checkpoint` and `loss` by step, as `demo_stages.run` found them at the kill.
        printed: by the command that went on.
        lines: of the finished run's metrics.
        log_every: steps from one line to the next.
        total_steps: of the run.
    """
    said = [re.match(r"going on +from step ([\d,]+) ", line) for line in printed]
    steps = [int(match[1].replace(",", "")) for match in said if match]
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
        largest_difference=max((abs(a - b) / abs(a) for a, b in pairs.values()), default=0.0),
        missing=tuple(sorted(step for step in due if logged.count(step) != 1)),
    )


def torch_shares(printed: Sequence[str]) -> dict[str, float]:
    """The comparison with PyTorch as `launch.export` prints it.

    Returns:
        Quantity → largest difference as a share of what is allowed.

    Raises:
        ValueError: no comparison was printed.
    """
    begin = next((number for number, line in enumerate(printed) if line.startswith("compared ")), None)
    rows = [line.rsplit(maxsplit=1) for line in printed[begin + 1 :]] if begin is not None else []
    if not rows:
        raise ValueError("the export has printed no comparison with PyTorch")
    return {name.strip(): float(share) for name, share in rows}


def last_layer(scores: Mapping[str, Any]) -> str:
    """The deepest layer of both encoders, as `layer 6`: where retrieval is judged, whatever others give."""
    return max(scores["retrieval"]["trained"], key=lambda name: int(name.split()[1]))


def criteria(
    scores: Mapping[str, Any], resumed: Resumption, shares: Mapping[str, Mapping[str, float]]
) -> list[Criterion]:
    """What must hold of a demo.

    Args:
        scores: of `launch.evaluate`, its JSON.
        resumed: how the killed run went on.
        shares: exported file → quantity → share, from `torch_shares`.
    """
    found = [_retrieval(scores)]
    found += [_reconstruction(scores["reconstruction"], kind) for kind in ("video", "audio")]
    return [*found, _going_on(resumed), *(_torch(name, of) for name, of in shares.items())]


def _retrieval(scores: Mapping[str, Any]) -> Criterion:
    layer = last_layer(scores)
    of = scores["retrieval"]["trained"][layer]["mean"][f"recall@{K}"]
    clips, needed = scores["clips"], TIMES_CHANCE * of["chance"]
    return Criterion(
        f"recall@{K}, {layer}",
        clips >= FEWEST_CLIPS and of["recall"] >= needed and of["low"] > of["chance"],
        f"{of['recall']:.1%} ({of['low']:.1%}–{of['high']:.1%}) of {clips} clips; "
        f"chance {of['chance']:.1%}, needed {needed:.1%}",
    )


def _reconstruction(errors: Mapping[str, Mapping[str, float]], kind: str) -> Criterion:
    trained = errors["trained"][kind]
    others = {name: of[kind] for name, of in errors.items() if name != "trained"}
    beside = ", ".join(f"{name} {error:.3f}" for name, error in others.items())
    return Criterion(f"masked {kind} error", trained < min(others.values()), f"{trained:.3f}; {beside}")


def _going_on(resumed: Resumption) -> Criterion:
    right_step = resumed.went_on_from == resumed.checkpoint > 0
    difference = resumed.largest_difference
    same = f"losses within {difference:.0e}" if difference else "the same losses"
    again = f"{len(resumed.repeated)} logged steps again, {same}"
    lost = f"; steps not logged once: {', '.join(map(str, resumed.missing))}" if resumed.missing else ""
    return Criterion(
        "killed and resumed",
        right_step and not resumed.missing and resumed.largest_difference <= SAME_LOSS,
        f"at {resumed.killed_at}, from {resumed.went_on_from} (last checkpoint {resumed.checkpoint}); "
        f"{again}{lost}",
    )


def _torch(name: str, shares: Mapping[str, float]) -> Criterion:
    worst = max(shares, key=shares.get)
    return Criterion(
        f"{name} in PyTorch", shares[worst] <= 1, f"largest difference {shares[worst]:.2%} of what is allowed"
    )


def page(found: Sequence[Criterion], seconds: Mapping[str, float], files: Mapping[str, Sequence[str]]) -> str:
    """The summary for a terminal.

    Args:
        found: criteria.
        seconds: stage → how long it took.
        files: kind → names.
    """
    width = max(map(len, [*seconds, *files, *(of.name for of in found)])) + 2
    lines = ["", "time"]
    lines += [f"  {name:{width}}{_duration(took):>12}" for name, took in seconds.items()]
    lines += [f"  {'in all':{width}}{_duration(sum(seconds.values())):>12}", "", "files"]
    lines += [f"  {kind:{width}}{', '.join(names)}" for kind, names in files.items()]
    lines += ["", "does it hold?"]
    lines += [f"  {of.name:{width}}{'yes' if of.holds else 'NO':5}{of.measured}" for of in found]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
