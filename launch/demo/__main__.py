"""The whole workflow in minutes on two CPU cores: made-up clips, pre-training, scores, weights, emotions.

    python -m launch.demo --root=runs/demo

Runs the commands that one would type, and prints each before it runs: make clips of talking faces, prepare
shards, pre-train (killed on purpose, then resumed), score on speakers that training has not seen, export
weights for PyTorch, fine-tune on a few labelled clips beside a model from scratch, and tell the emotions of
video files. The exit code is 0 only if the model has learned, by the criteria of `launch.demo.criteria` and
`launch.demo.emotions`; it is 2 if a criterion does not hold.

After an interruption, the same command continues. After the end, it prints the results again.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from hicmae_jax.logs import metrics
from hicmae_jax.runs.in_use import Hold
from hicmae_jax.settings import recipes, schema
from hicmae_jax.studies.stages import Record, Stage, python_command, run_all
from launch import command
from launch.demo import criteria, emotions
from launch.demo.killed_training import KilledTraining

FLAGS = flags.FLAGS

CONFIG, RECIPE = "demo", "pretrain:mu"
# One clip of each speaker: the model learns more from a few clips if no two are alike.
SPEAKERS, TEST_SPEAKERS, CLIPS_EACH = 512, 96, 1
SECONDS = "3,3.5"  # length of a clip; a sample takes 2.6 s of it
SUMMARY, SCORES = "summary.json", "scores.json"
PICTURES = ("curves.png", "reconstructions.png", "retrieval.png")
EMOTIONS = "emotions"
PRETRAINED_WEIGHTS = "weights"
WEIGHTS = (PRETRAINED_WEIGHTS, f"{EMOTIONS}/{emotions.WEIGHTS}")
KILLED, RESUMED = "train, killed on purpose", "train on, the same command"


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("root", "runs/demo", "Directory to create, or to go on with.")


def main(argv: list[str]) -> int:
    """Run the demo and return the exit code: 2 if a criterion does not hold, else that of a failed stage."""
    root = Path(FLAGS.root)
    config = recipes.load(CONFIG)
    Record(root)  # refuses a directory of something else
    with Hold(root):
        record = Record(root)  # read again, because only now no other demo writes it
        plan = stages(root, config.steps)
        run_all(plan, record)
        return report(root, plan, record, config.log.every, config.steps)


def stages(root: Path, steps: int) -> list[Stage]:
    """The commands of the demo.

    Args:
        root: directory in which the commands work.
        steps: number of training steps.
    """

    def prepare(split: str) -> tuple[str, ...]:
        return python_command("launch.prepare", input=root / "raw", output=root / split, split=split)

    make_corpus = python_command(
        "launch.make_corpus",
        root=root / "raw",
        clips=CLIPS_EACH * SPEAKERS,
        speakers=SPEAKERS,
        test_speakers=TEST_SPEAKERS,
        seconds=SECONDS,
    )
    train = python_command(
        "launch.pretrain",
        config=CONFIG,
        run=root / "run",
        **{"config.data.sets": root / "dev", "config.evaluation.sets": root / "test"},
    )
    score = python_command(
        "launch.evaluate",
        run=root / "run",
        data=root / "test",
        output=root,
        clips=CLIPS_EACH * TEST_SPEAKERS,
    )

    export = python_command("launch.export", run=root / "run", output=root / PRETRAINED_WEIGHTS)
    middle = range(steps // 3, 2 * steps // 3)
    return [
        Stage("make up talking faces", make_corpus),
        Stage("prepare shards to train on", prepare("dev")),
        Stage("prepare shards to score on", prepare("test")),
        KilledTraining(KILLED, train, run_directory=root / "run", kill_in=middle),
        Stage(RESUMED, train),
        Stage(
            "score on speakers never seen",
            score,
            makes=tuple(root / name for name in (SCORES, *PICTURES)),
        ),
        Stage(f"export {PRETRAINED_WEIGHTS}", export, makes=(root / PRETRAINED_WEIGHTS,)),
        *emotions.stages(root / EMOTIONS, root / "run", f"export {WEIGHTS[1]}"),
    ]


def report(root: Path, plan: Sequence[Stage], record: Record, log_every: int, steps: int) -> int:
    """Checks the criteria, writes the summary and prints it.

    Args:
        root: directory of the demo.
        plan: stages of the demo, all finished.
        record: record of the stages.
        log_every: steps from one line of metrics to the next.
        steps: number of training steps.

    Returns:
        The exit code: 0, or 2 if a criterion does not hold.
    """
    scores = json.loads((root / SCORES).read_text(encoding="utf-8"))
    lines = metrics.read_metrics(root / "run")
    resumed = criteria.resumption(
        record[KILLED]["killed"], record[RESUMED]["printed"], lines, log_every, steps
    )
    shares = {name: criteria.torch_shares(record[f"export {name}"]["printed"]) for name in WEIGHTS}
    recognition = emotions.recognition(root / EMOTIONS)
    found = [*criteria.criteria(scores, resumed, shares), emotions.criterion(recognition)]
    seconds = {stage.name: record[stage.name]["seconds"] for stage in plan}
    holds = all(criterion.holds for criterion in found)
    summary = {
        "holds": holds,
        "criteria": [criterion._asdict() for criterion in found],
        "seconds": seconds,
        "interruption": resumed._asdict(),
        "scores": scores,
        "pytorch": shares,
        "emotions": emotions.summary(recognition),
        "changes_of_the_recipe": changes(),
        "versions": json.loads((root / "run" / "versions.json").read_text(encoding="utf-8")),
    }
    (root / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    of_emotions = [f"{EMOTIONS}/{name}" for name in emotions.PICTURES]
    files = {"pictures": [*PICTURES, *of_emotions], "weights": WEIGHTS, "numbers": (SUMMARY, SCORES)}
    print(criteria.page(found, seconds, files))
    print(emotions.page(recognition))
    print(emotions.page_of_videos(root / EMOTIONS, record[emotions.EMBED]["printed"]))
    print(f"\nEverything is in {root}; delete it to run the demo again.")
    if holds:
        return 0
    failed = [criterion.name for criterion in found if not criterion.holds]
    print(f"demo: {len(failed)} of {len(found)} criteria do not hold: {'; '.join(failed)}", file=sys.stderr)
    return 2


def changes() -> Mapping[str, Mapping[str, Any]]:
    """Settings that the demo changes: name → the `recipe`'s value and the `demo`'s."""
    recipe, demo = (schema.flatten(recipes.load(config).to_dict()) for config in (RECIPE, CONFIG))
    return {
        name: {"recipe": recipe[name], "demo": value} for name, value in demo.items() if value != recipe[name]
    }


if __name__ == "__main__":
    command.run("demo", define_flags, main, resumable=True)
