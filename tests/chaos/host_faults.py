"""Faults of one of two hosts: it is killed, gets SIGTERM, gets another command, or is not started."""

from signal import SIGKILL, SIGTERM

from tests.chaos.process_faults import STOPPED
from tests.chaos.trials import Fault, Trial


def host_killed(trial: Trial, victim: int) -> None:
    run, processes = trial.started("two hosts")
    processes[victim].kill()
    line = (
        rf"pretrain: host {victim} \(.+\) is gone: its process was killed, or its machine or network failed; "
        "run the same command again on all hosts to go on"
    )
    (ending,) = trial.ended(run, [processes[1 - victim]], 75, line)
    if victim:  # when the first host is gone, JAX writes messages too
        lines = [text for text in ending.err.splitlines() if text.strip() and f"/{run.steps} [" not in text]
        trial.expect(len(lines) == 1, f"more than one line on stderr: {lines}")
    trial.ended(run, [processes[victim]], -SIGKILL)
    trial.goes_on(run, run.lost_by_a_kill, "two hosts")


def host_stopped(trial: Trial, told: int) -> None:
    run, processes = trial.started("two hosts")
    processes[told].send_signal(SIGTERM)
    ended = trial.ended(run, processes, 75, STOPPED.format("SIGTERM", r"\d+"))
    trial.expect(len({ending.line for ending in ended}) == 1, f"{[ending.line for ending in ended]}")
    trial.goes_on(run, 0, "two hosts")


def another_batch(trial: Trial) -> None:
    run = trial.run("two hosts")
    line = (
        "pretrain: the hosts are not alike: config.batch is 8 on host 0, 16 on host 1. Give every host the "
        "same command, code and data"
    )
    trial.ended(run, run.start(batch=16), 1, line)
    trial.expect(not run.directory.exists(), "something was written")


def missing_host(trial: Trial) -> None:
    run = trial.run("two hosts", options=["--wait_for_hosts=3"])
    absent = trial.draw.randrange(2)
    line = (
        r"pretrain: host 0 at localhost:\d+ has not answered within 3 s .+"
        if absent == 0
        else r"pretrain: host 1 of 2 has not come within 3 s \(here are 0 on .+\): see their output, .+"
    )
    trial.ended(run, run.start(absent=[absent]), 1, line)
    trial.expect(not run.directory.exists(), "something was written")


FAULTS: dict[str, Fault] = {
    "first of two hosts killed": lambda trial: host_killed(trial, 0),
    "second of two hosts killed": lambda trial: host_killed(trial, 1),
    "SIGTERM to the first of two hosts": lambda trial: host_stopped(trial, 0),
    "SIGTERM to the second of two hosts": lambda trial: host_stopped(trial, 1),
    "one of two hosts told another batch": another_batch,
    "one of two hosts not started": missing_host,
}
