"""A study of scaling on made-up faces: four sizes, four lengths, two seeds, and three comparisons.

    python -m benchmarks.scaling_study --root=runs/scaling [--jobs=2]

Makes a corpus, and trains and reports four studies by `launch.sweep` and `launch.report`:

- `sizes`: the lengths branch off one run of each size and seed;
- `separate`: the same lengths of two sizes, each trained from the start with a cosine, to compare with;
- `decoded`: half of the masked tokens decoded, against all, for the same arithmetic;
- `rates`: five learning rates of three sizes.

Prints tables that compare branches with separate runs, and dual masking with all tokens. After an
interruption, the same command continues.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from benchmarks import made_up_corpora, scaling_comparisons
from data_pipeline.common import atomic_files
from hicmae_jax.model.flops import flops
from hicmae_jax.settings import pretrain, recipes
from hicmae_jax.studies.stages import Record, Stage, python_command, run_all
from launch import command

FLAGS = flags.FLAGS

CONFIG = "scaling"
TEST_SPEAKERS = 32
LABELLED_CLIPS, LABELLED_SPEAKERS = 576, 96
WIDTHS = ((48, 24), (64, 32), (96, 48), (144, 72))
"""Widths of encoders and decoders."""
BUDGETS = (150, 300, 600, 1_200)
LEAST_DECAY = 50
SEEDS = "seed=0,1"
HALF = {"masks.video_decode_fraction": 0.5, "masks.audio_decode_fraction": 0.5}
SAME_MASKS = {"evaluation.video_ratio": 0.5, "evaluation.audio_ratio": 0.75}
"""The masks of the recipe, with every masked token decoded: runs that decode other tokens are compared so."""
RATES = (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)
"""Base rates; that of the recipe is the second one."""
STUDIES = ("sizes", "separate", "decoded", "rates")


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("root", "runs/scaling", "Directory to create, or to go on with.")
    flags.DEFINE_integer("jobs", 2, "Runs to train at a time.", lower_bound=1)


def stages(root: Path, jobs: int) -> list[Stage]:
    """The commands of the study.

    Args:
        root: directory in which they work.
        jobs: runs to train at a time.
    """
    made = [
        *made_up_corpora.without_labels(root, TEST_SPEAKERS, ("dev", "test")),
        *made_up_corpora.with_labels(root, LABELLED_CLIPS, LABELLED_SPEAKERS, seed=1),
    ]
    trained = [Stage(f"train the study {name}", _sweep(root, name, jobs), makes=()) for name in STUDIES]
    reported = [
        Stage(
            f"report the study {name}",
            python_command("launch.report", study=root / name, output=root / f"{name}_report"),
        )
        for name in STUDIES
    ]
    return [*made, *trained, *reported]


def tables() -> dict[str, list[dict[str, object]]]:
    """Name of each study → its runs, a dictionary of settings each."""
    widths = [_row(*pair) for pair in WIDTHS]
    separate = [
        {**_row(*pair), "name": f"w{pair[0]},cosine,steps={steps}", "steps": steps}
        for pair in WIDTHS[1:3]
        for steps in BUDGETS
    ]
    middle = _row(*WIDTHS[2]) | SAME_MASKS
    whole, half = (_flops_a_clip(middle | changes) for changes in ({}, HALF))
    steps = BUDGETS[2]
    decoded = [
        {**middle, "name": "all", "steps": steps, **dict.fromkeys(HALF, 1.0)},
        {**middle, "name": "half", "steps": round(steps * whole / half), **HALF},
    ]
    rates = [
        {**_row(*pair), "name": f"w{pair[0]},rate={rate}", "steps": BUDGETS[1], "optimizer.base_rate": rate}
        for pair in (WIDTHS[0], *WIDTHS[2:])
        for rate in RATES
    ]
    return {"sizes": widths, "separate": separate, "decoded": decoded, "rates": rates}


def _row(encoder: int, decoder: int) -> dict[str, object]:
    return {"name": f"w{encoder}", "model.encoder_dim": encoder, "model.decoder_dim": decoder}


def _flops_a_clip(changes: Mapping[str, object]) -> int:
    config = recipes.load(CONFIG)
    config.data.sets = ("any",)
    config.update_from_flattened_dict({name: value for name, value in changes.items() if name != "name"})
    settings = pretrain.from_config_dict(config, "cpu")
    return sum(flops(settings.model, settings.masks).training.values())


def _sweep(root: Path, name: str, jobs: int) -> tuple[str, ...]:
    branches = {"budgets": ",".join(map(str, BUDGETS)), "least_decay": LEAST_DECAY} if name == "sizes" else {}
    seeds = (f"--grid={SEEDS}",) if name in ("sizes", "decoded") else ()
    return python_command(
        "launch.sweep",
        *seeds,
        root=root / name,
        table=root / f"{name}.csv",
        jobs=jobs,
        config=CONFIG,
        **branches,
        **{
            "config.data.sets": root / "dev",
            "config.evaluation.sets": root / "test",
            "config.evaluation.labelled": root / "labelled",
        },
    )


def write_tables(root: Path) -> None:
    """Write the tables of runs that the sweeps read."""
    for name, rows in tables().items():
        atomic_files.replace_text(root / f"{name}.csv", _as_csv(rows))


def _as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main(argv: list[str]) -> int:
    """Run the study and return the exit code."""
    root = Path(FLAGS.root)
    record = Record(root)
    write_tables(root)
    planned = stages(root, FLAGS.jobs)
    run_all(planned, record)
    runs = {name: scaling_comparisons.read_runs(root / f"{name}_report") for name in STUDIES}
    print(scaling_comparisons.branches_and_separate_runs(runs["sizes"], runs["separate"]), end="\n\n")
    print(scaling_comparisons.dual_masking(runs["decoded"]), end="\n\n")
    print(scaling_comparisons.cost({stage.name: record[stage.name]["seconds"] for stage in planned}))
    return 0


if __name__ == "__main__":
    command.run("scaling_study", define_flags, main, resumable=True)
