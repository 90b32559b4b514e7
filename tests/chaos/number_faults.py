"""Faults of numbers: losses and gradients that are not finite."""

import numpy as np

from data_pipeline.reading.pipeline import Pipeline
from tests.chaos.runs import SETTINGS, Run
from tests.chaos.trials import Fault, Trial
from tests.support import shrunk_recipe

IN_A_ROW = 3


def bad_batches(trial: Trial) -> None:
    """NaN in one step and in three in a row: each update is skipped and logged with its clips."""
    undisturbed = trial.stage.undisturbed("poisoned")
    check_skipped(trial, undisturbed)
    run, processes = trial.started("poisoned")
    processes[0].kill()
    trial.ended(run, processes, -9)
    trial.happened.append(f"{len(trial.stage.poison)} updates skipped; killed")
    trial.goes_on(run, run.lost_by_a_kill, "poisoned")


def bad_batches_in_a_row(trial: Trial) -> None:
    """As many in a row as end the run: with a higher limit it continues from the state before them."""
    run = trial.run("poisoned", faults__skips=IN_A_ROW)
    line = (
        rf"pretrain: {IN_A_ROW} updates in a row, up to step {trial.stage.poison[-1] + 1}, had a loss or "
        "gradient that is not finite and were skipped: the last checkpoint holds the state from before them; "
        "look at their clips in events.jsonl, or go on from it with a lower optimizer.base_rate"
    )
    trial.ended(run, run.start(), 1, line)
    check_skipped(trial, run)
    trial.goes_on(run, 0, "poisoned", faults__skips=IN_A_ROW + 1)


def check_skipped(trial: Trial, run: Run) -> None:
    found = [(event["step"], event["examples"]) for event in run.events("skipped update")]
    expected = [(step + 1, clips(trial, step)) for step in trial.stage.poison]
    trial.expect(found == expected, f"skipped updates {found}, not {expected}")
    bad = [name for name, array in run.state().items() if not np.isfinite(array.astype(np.float64)).all()]
    trial.expect(not bad, f"not finite: {bad}")


def clips(trial: Trial, step: int) -> list[int]:
    """Ids of the clips of a step."""
    config = shrunk_recipe.config(trial.stage.data("whole"), **SETTINGS).data
    with Pipeline(config).batches(step) as batches:
        return next(batches)["example"].tolist()


FAULTS: dict[str, Fault] = {"NaN in batches": bad_batches, "NaN in many in a row": bad_batches_in_a_row}
