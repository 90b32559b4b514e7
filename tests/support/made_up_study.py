"""Studies whose runs were never trained: their losses follow a law, so a report can be made in seconds."""

import datetime
import json
from pathlib import Path

import numpy as np

from hicmae_jax.settings import recipes
from hicmae_jax.settings.pretrain import from_config_dict
from hicmae_jax.studies import plan
from hicmae_jax.studies.law import Law
from hicmae_jax.studies.plan import PlannedRun, Study

LAW = Law(E=0.35, A=45.0, B=120.0, alpha=0.35, beta=0.5)
BEGUN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
BATCH = 160


def moment(seconds: float) -> str:
    """A time of an event, seconds after the start of all made-up runs."""
    return (BEGUN + datetime.timedelta(seconds=seconds)).isoformat(timespec="seconds")


def settings(size: str, steps: int, **changed) -> dict:
    """The settings of a run, as `config.json` has them; `__` in a name stands for the dot."""
    config = recipes.load(f"pretrain:{size}")
    config.epochs = config.warmup_epochs = None
    config.steps, config.warmup_steps = steps, 1
    config.data.sets = ("prepared/dev",)
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changed.items()})
    return from_config_dict(config, "cpu").to_dict()


def recall_at(loss: float) -> float:
    """The recall@5 of made-up runs of a loss."""
    return 1 / (1 + loss)


def scores(parameters: float, examples: float, noise: float = 0.0) -> dict:
    """Scores of an evaluation."""
    loss = float(LAW.loss(parameters, examples)) * (1 + noise)
    recall = recall_at(loss)
    return {
        "held_out/video": 0.4 * loss,
        "held_out/audio": 0.6 * loss,
        "held_out/total": loss + 0.1,
        "held_out/recall@5/layer_4": recall / 2,
        "held_out/recall@5/layer_10": recall,
        "held_out/chance@5": 0.05,
    }


def write_run(
    directory: Path,
    config: dict,
    parameters: float,
    steps: int,
    *,
    noise: float = 0.0,
    probe: bool = True,
    events: list[dict] | None = None,
    step_seconds: float = 2.0,
) -> None:
    """Write the directory of a run that has made all its steps.

    Args:
        directory: to make.
        config: from `settings`.
        parameters: of its model.
        steps: steps made.
        noise: by which its last loss lies off the law, as a share.
        probe: whether it has scores of probes.
        events: its events; by default one start and an end.
        step_seconds: seconds of a step.
    """
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    lines = []
    for made in np.unique(np.linspace(steps // 5, steps, 5).astype(int)):
        lines.append({"step": int(made), "loss/total": 1.0, "time/step_seconds": step_seconds})
        found = scores(parameters, int(made) * BATCH, noise if made == steps else 0.0)
        lines.append({"step": int(made), **found})
        if probe:
            uar = found["held_out/recall@5/layer_10"] * 0.9
            lines.append({"step": int(made), "probe/linear_uar": uar, "probe/chance_uar": 0.25})
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    default = [
        {"time": moment(0), "event": "started", "step": 0},
        {"time": moment(steps * step_seconds * 1.25), "event": "finished"},
    ]
    (directory / "events.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in (default if events is None else events))
    )


WIDTHS = (32, 64, 128)


def parameters_of(width: int) -> float:
    """The N from which the law gives the loss of a made-up run with this width."""
    return 2e4 * width


def write_study(root: Path, lengths: tuple[int, ...], noise: float = 0.0) -> Study:
    """Write a study of small models of `WIDTHS` whose runs have all been trained.

    Args:
        root: to make.
        lengths: steps of its runs.
        noise: by which losses lie off the law, as a share.
    """
    generator = np.random.default_rng(0)
    runs = []
    for width in WIDTHS:
        for steps in lengths:
            name = f"encoder_dim={width},steps={steps}"
            runs.append(PlannedRun(name, {"model.encoder_dim": str(width), "steps": str(steps)}, steps))
            write_run(
                plan.directory_of(root, name),
                settings("mu", steps, model__encoder_dim=width),
                parameters_of(width),
                steps,
                noise=noise * generator.standard_normal(),
            )
    study = Study(tuple(runs), {"config": "pretrain:mu"})
    (root / plan.FILE).write_text(json.dumps(study.to_dict()))
    return study
