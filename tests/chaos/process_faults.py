"""Faults of processes on one host: signals, workers that die or hang."""

import os
import re
import signal
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM

from data_pipeline.common import anywhere
from tests.chaos.trials import Fault, Trial
from tests.support.processes import HANG, is_alive, wait_until, workers

STOPPED = r"pretrain: stopped by {} with step {} saved; run the same command again to go on"


def killed(trial: Trial) -> None:
    run, processes = trial.started()
    processes[0].kill()
    trial.ended(run, processes, -SIGKILL)
    trial.happened.append("killed")
    trial.goes_on(run, run.lost_by_a_kill)


def stopped(trial: Trial, number: signal.Signals, code: int, name: str) -> None:
    run, processes = trial.started()
    processes[0].send_signal(number)
    trial.ended(run, processes, code, STOPPED.format(name, r"\d+"))
    ending = trial.goes_on(run, 0)
    trial.expect(ending.first_step > 0, "began again")


def told_twice(trial: Trial) -> None:
    run, processes = trial.started()
    # It is stopped until both have come, or it might end before the second.
    for number in (SIGSTOP, *trial.draw.sample([SIGINT, SIGTERM], 2), SIGCONT):
        processes[0].send_signal(number)
    line = "a second signal: left at once, nothing saved since the last checkpoint"
    trial.ended(run, processes, (128 + SIGINT, 128 + SIGTERM), line)
    trial.expect(all(step % run.every == 0 for step in run.saved()), f"it has saved {run.saved()}")
    trial.goes_on(run, run.lost_by_a_kill)


def worker_killed(trial: Trial) -> None:
    run, processes = trial.started(data__workers=1)
    (worker,) = workers(processes[0].pid)
    os.kill(worker, SIGKILL)
    ending = trial.completes(run, processes)
    said = "starting data workers again: one was killed by SIGKILL, perhaps because memory ran out"
    trial.expect(said in ending.err, f"{said!r} is not in: {ending.err}")
    trial.lost = 0  # it was not started again


def hung(trial: Trial) -> None:
    trial.stage.undisturbed("plain")  # so that the next run need not compile
    # A start without compilation must not take as long.
    run, processes = trial.started(data__workers=1, faults__minutes=0.4)
    (worker,) = workers(processes[0].pid)
    os.kill(worker, SIGSTOP)
    run.resume()
    processes[0].wait(HANG)
    # So that it ends too, and closes its end of the pipes.
    os.kill(worker, SIGCONT)
    wait_until(lambda: not is_alive(worker))
    stacks = run.directory / "stacks-0.txt"
    line = (
        r"watchdog: no progress for 2\d s, waiting for input after step \d+: ended; run the same command to "
        rf"go on\. The stacks of all threads are in {re.escape(str(stacks))}"
    )
    trial.ended(run, processes, 70, line)
    trial.expect(
        "hicmae_jax/runs/loop.py" in anywhere.read(stacks).decode(),
        "the stacks do not show where the loop was",
    )
    trial.goes_on(run, run.lost_by_a_kill)


FAULTS: dict[str, Fault] = {
    "SIGKILL": killed,
    "SIGTERM": lambda trial: stopped(trial, SIGTERM, 75, "SIGTERM"),
    "Ctrl-C": lambda trial: stopped(trial, SIGINT, 130, "Ctrl-C"),
    "two signals": told_twice,
    "data worker killed": worker_killed,
    "data worker hangs": hung,
}
