"""Everything once, in minutes, on two CPU cores, from made-up clips to scores and PyTorch weights.

    python -m launch.demo --root=runs/demo

Runs the commands that one would type: a corpus of talking faces, shards, pre-training that is killed in the
middle on purpose and goes on, scores on speakers never seen, weights for PyTorch. Each is shown before it
runs. Exits with 0 only if the model has learned, by criteria that `demo_report` sets beforehand; 2 if not.

The same command goes on where it has stopped; once finished it shows its results again.
"""

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import app, flags

from hicmae_jax.logs import metrics
from hicmae_jax.settings import recipes, schema
from hicmae_jax.studies.stages import Finished, Stage, StageError, run
from launch.demo import criteria

FLAGS = flags.FLAGS

CONFIG, RECIPE = "demo", "pretrain:mu"
# One clip of each: few clips teach more if no two are alike. Training never sees the held-out speakers.
SPEAKERS, TEST_SPEAKERS, CLIPS_EACH = 564, 96, 1
SECONDS = "3,3.5"  # a sample is 2.6 s of a clip
SUMMARY, SCORES = "summary.json", "scores.json"
PICTURES = ("curves.png", "reconstructions.png", "retrieval.png")
WEIGHTS = ("model.safetensors", "model.pth")
KILLED, RESUMED = "train, killed on purpose", "train on, the same command"


def define_flags() -> None:
    """Declares the command line; only when run, so that other commands may use the same names."""
    flags.DEFINE_string("root", "runs/demo", "Directory to make, or to go on with.")


def main(argv: list[str]) -> int:
    """Runs the demo and returns its exit code: 2 if a criterion does not hold, else that of what failed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's way to press Ctrl-C
    root = Path(FLAGS.root)
    try:
        if argv[1:]:
            raise ValueError(f"do not know what to do with {argv[1]!r}: options begin with --")
        config = recipes.load(CONFIG)
        finished = Finished(root)
        plan = stages(root, config.steps)
        for number, stage in enumerate(plan, start=1):
            done = finished.holds(stage)
            print(f"\n[{number}/{len(plan)}] {stage.name}{' (done before)' if done else ''}")
            print(f"  {stage.shown()}", flush=True)
            if not done:
                finished.add(stage, run(stage))
        return report(root, plan, finished, config.log.every, config.steps)
    except StageError as error:
        print(f"demo: {error}; the same command goes on from there", file=sys.stderr)
        return error.code
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def stages(root: Path, steps: int) -> list[Stage]:
    """The commands of the demo.

    Args:
        root: of all that it makes.
        steps: that training takes.
    """

    def launch(command: str, **options: object) -> tuple[str, ...]:
        given = (f"--{name}={value}" for name, value in options.items())
        return (sys.executable, "-m", f"launch.{command}", *given)

    def prepare(split: str) -> tuple[str, ...]:
        return launch("prepare", input=root / "raw", output=root / split, split=split)

    made_up = launch(
        "make_corpus",
        root=root / "raw",
        clips=CLIPS_EACH * SPEAKERS,
        speakers=SPEAKERS,
        test_speakers=TEST_SPEAKERS,
        seconds=SECONDS,
    )
    train = launch(
        "pretrain",
        config=CONFIG,
        run=root / "run",
        **{"config.data.sets": root / "dev", "config.evaluation.sets": root / "test"},
    )
    score = launch(
        "evaluate",
        run=root / "run",
        data=root / "test",
        output=root,
        clips=CLIPS_EACH * TEST_SPEAKERS,
    )
    return [
        Stage("make up talking faces", made_up),
        Stage("prepare shards to train on", prepare("dev")),
        Stage("prepare shards to score on", prepare("test")),
        Stage(KILLED, train, kill_in=range(steps // 3, 2 * steps // 3), run=root / "run"),
        Stage(RESUMED, train),
        Stage(
            "score on speakers never seen",
            score,
            makes=tuple(root / name for name in ("scores.json", *PICTURES)),
        ),
        *(
            Stage(
                f"export {name}",
                (*launch("export", run=root / "run", output=root / name), "--check"),
                makes=(root / name,),
            )
            for name in WEIGHTS
        ),
    ]


def report(root: Path, plan: list[Stage], finished: Finished, log_every: int, steps: int) -> int:
    """Judges the results, writes the summary and prints it.

    Args:
        root: of all that was made.
        plan: its stages.
        finished: with all of them.
        log_every: steps from one line of metrics to the next.
        steps: that training took.

    Returns:
        0, or 2 if a criterion does not hold.
    """
    scores = json.loads((root / SCORES).read_text())
    lines = metrics.read_metrics(root / "run")
    resumed = criteria.resumption(
        finished[KILLED]["killed"], finished[RESUMED]["printed"], lines, log_every, steps
    )
    shares = {name: criteria.torch_shares(finished[f"export {name}"]["printed"]) for name in WEIGHTS}
    found = criteria.criteria(scores, resumed, shares)
    seconds = {stage.name: finished[stage.name]["seconds"] for stage in plan}
    holds = all(of.holds for of in found)
    summary = {
        "holds": holds,
        "criteria": [of._asdict() for of in found],
        "seconds": seconds,
        "interruption": resumed._asdict(),
        "scores": scores,
        "pytorch": shares,
        "changes_of_the_recipe": changes(),
        "versions": json.loads((root / "run" / "versions.json").read_text()),
    }
    (root / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    files = {"pictures": PICTURES, "weights": WEIGHTS, "numbers": (SUMMARY, SCORES)}
    print(criteria.page(found, seconds, files))
    print(f"\nAll of it is in {root}; delete it to make it again.")
    if holds:
        return 0
    failed = [of.name for of in found if not of.holds]
    print(f"demo: {len(failed)} of {len(found)} do not hold: {'; '.join(failed)}", file=sys.stderr)
    return 2


def changes() -> Mapping[str, Mapping[str, Any]]:
    """What the demo's configuration changes of the recipe: setting → both values."""
    recipe, demo = (schema.flatten(recipes.load(of).to_dict()) for of in (RECIPE, CONFIG))
    return {
        name: {"recipe": recipe[name], "demo": value} for name, value in demo.items() if value != recipe[name]
    }


if __name__ == "__main__":
    define_flags()
    app.run(main)
