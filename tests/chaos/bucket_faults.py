"""Faults of buckets: requests that fail, lost connections, slow answers, old listings, no bucket any more."""

import re
from collections.abc import Callable

from tests.chaos.trials import Fault, Trial
from tests.support.bucket_server import Faults


def failing(trial: Trial, met: str, faults: Callable[[int], Faults]) -> None:
    """The faults last while a run is killed and while it goes on."""
    server = trial.stage.bucket
    if server is None:
        trial.untried = "it needs --bucket"
        return
    trial.stage.undisturbed("plain")
    before = dict(server.met)
    server.faults = faults(trial.draw.getrandbits(16))
    try:
        run, processes = trial.started()
        processes[0].kill()
        trial.ended(run, processes, -9)
        met_first = server.met[met] - before[met]
        trial.goes_on(run, run.lost_by_a_kill)
    finally:
        server.faults = Faults()
    times = server.met[met] - before[met]
    trial.expect(times > met_first, f"the run that went on met no fault of the kind {met}")
    trial.happened.insert(0, "met by requests of both; killed")


def gone(trial: Trial) -> None:
    server = trial.stage.bucket
    if server is None:
        trial.untried = "it needs --bucket"
        return
    run, processes = trial.started(options=["--patience=5"])
    server.faults = Faults(refused=True)
    try:
        line = (
            rf"pretrain: {re.escape(str(run.directory))}/checkpoints: the checkpoint of step \d+ was not "
            "saved: "
            r"BucketError: gs://.+ cannot be .+; mend that, and give the same command to go on from step \d+"
        )
        trial.ended(run, processes, 1, line)
    finally:
        server.faults = Faults()
    trial.goes_on(run, run.lost_by_a_kill)


def moved(trial: Trial) -> None:
    """A run that was begun on a disk goes on in a bucket."""
    if trial.stage.bucket is None:
        trial.untried = "it needs --bucket"
        return
    before, processes = trial.started(directory=trial.directory / "run")
    processes[0].kill()
    trial.ended(before, processes, -9)
    run = trial.run()
    run.copy_from(before)
    run.reached = before.logged()
    trial.happened.append("killed on a disk and copied to the bucket")
    ending = trial.goes_on(run, run.lost_by_a_kill)
    trial.expect(ending.first_step == before.saved()[-1], "it did not go on from the copied checkpoint")


FAULTS: dict[str, Fault] = {
    "begun on a disk and continued in a bucket": moved,
    "bucket answers 503 to three requests of a hundred": lambda trial: failing(
        trial, "503", lambda seed: Faults(unavailable=0.03, seed=seed)
    ),
    "bucket loses three connections of a hundred": lambda trial: failing(
        trial, "cut", lambda seed: Faults(cut=0.03, seed=seed)
    ),
    "bucket slow at every tenth request": lambda trial: failing(
        trial, "slow", lambda seed: Faults(slow=0.1, seconds=1.0, seed=seed)
    ),
    "bucket with listings 5 s old": lambda trial: failing(trial, "stale", lambda seed: Faults(stale=5.0)),
    "bucket gone": gone,
}
