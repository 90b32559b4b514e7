"""What the studies of `benchmarks.scaling_study` say side by side, as tables in Markdown."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

PERCENT = 100

Row = Mapping[str, str]


def read_runs(report: Path) -> list[Row]:
    """The finished runs of a report.

    Args:
        report: directory that `launch.report` has written.
    """
    with (report / "runs.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["state"] == "done"]


def branches_and_separate_runs(branches: Sequence[Row], separate: Sequence[Row]) -> str:
    """The loss of branches beside that of runs with a schedule of their own, by size and steps.

    Args:
        branches: runs of several seeds that decay from one long run.
        separate: runs from the start with a cosine.
    """
    of_branches = _by(branches, ("parameters", "steps"))
    of_separate = _by(separate, ("parameters", "steps"))
    lines = [
        "| parameters | steps | branch, mean of seeds (between seeds) | cosine of its own | difference |",
        "|---|---|---|---|---|",
    ]
    for key in sorted(of_separate, key=lambda key: tuple(map(int, key))):
        parameters, steps = map(int, key)
        losses, others = _losses(of_branches[key]), _losses(of_separate[key])
        mean, other = statistics.mean(losses), statistics.mean(others)
        spread = max(losses) - min(losses)
        lines.append(
            f"| {parameters:,} | {steps:,} | {mean:.4f} ({spread:.4f}) | {other:.4f} | "
            f"{PERCENT * (mean / other - 1):+.2f} % |"
        )
    return "\n".join(lines)


def dual_masking(runs: Sequence[Row]) -> str:
    """Runs that decode all or half of the masked tokens, compared on the same masks.

    Args:
        runs: of several seeds.
    """
    lines = [
        "| decoded in training | steps | TFLOP | loss on all masked tokens (between seeds) | probe UAR, % |",
        "|---|---|---|---|---|",
    ]
    for (share,), rows in sorted(_by(runs, ("masks.video_decode_fraction",)).items(), reverse=True):
        losses = _losses(rows)
        uar = ", ".join(f"{PERCENT * float(row['probe_uar']):.1f}" for row in rows)
        lines.append(
            f"| {PERCENT * float(share):.0f} % | {int(rows[0]['steps']):,} | "
            f"{float(rows[0]['flops']) / 1e12:.2f} | {statistics.mean(losses):.4f} "
            f"({max(losses) - min(losses):.4f}) | {uar} |"
        )
    return "\n".join(lines)


def cost(seconds: Mapping[str, float]) -> str:
    """What each part of the benchmark has cost.

    Args:
        seconds: name of a stage → time from its begin to its end, in s.
    """
    lines = ["| stage | minutes |", "|---|---|"]
    lines += [f"| {name} | {each / 60:.1f} |" for name, each in seconds.items()]
    return "\n".join([*lines, f"| all | {sum(seconds.values()) / 60:.0f} |"])


def _by(rows: Sequence[Row], columns: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[column] for column in columns)].append(row)
    return dict(found)


def _losses(rows: Sequence[Row]) -> list[float]:
    return [float(row["loss"]) for row in rows]
