"""The watchdog: what it reports about which stage and host, and what it leaves behind."""

import re
import threading

import pytest

from data_pipeline.common import anywhere
from hicmae_jax.logs import ledger
from hicmae_jax.supervision import heartbeats
from hicmae_jax.supervision.watchdog import PATIENCE, QUIET, WINDOW, Watchdog
from tests.support.fake_clock import FakeClock
from tests.support.processes import HANG, wait_until

THREADS = ("watchdog", "heartbeats", "deadline")


class Run:
    """A run's main thread, and the lines that its watchdog reports."""

    def __init__(self, directory, clock, process=0, processes=1, **choices):
        self.clock, self.lines = clock, []
        self.watchdog = Watchdog(self.lines.append, directory, process, processes, clock=clock, **choices)
        self.made = choices.get("step", 0)

    @property
    def activity(self):
        return self.watchdog._activity

    def steps(self, count, seconds=0.5):
        for _ in range(count):
            self.clock.go(seconds)
            self.end_step()

    def end_step(self):
        self.made += 1
        self.watchdog.step(self.made)

    def exchange_and_look(self):
        """What its two threads do once a second."""
        self.watchdog.exchange()
        self.watchdog.look()

    def look(self, seconds=0.0):
        """The lines reported within this time, with one look a second."""
        for _ in range(int(seconds)):
            self.clock.go(1)
            self.exchange_and_look()
        self.clock.go(seconds % 1)
        self.exchange_and_look()
        told, self.lines[:] = list(self.lines), []
        return told


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def run(tmp_path, clock):
    return Run(tmp_path, clock, step=1_000)


# --- What the main thread does ------------------------------------------------------------------------------


def test_the_innermost_stage_counts_and_the_outer_one_continues_after_it(run):
    with run.watchdog.stage("evaluation"):
        with run.watchdog.stage("device"):
            assert (run.activity.stage, run.activity.pause) == ("device", "evaluation")
        assert run.activity.stage == "evaluation"
    assert (run.activity.stage, run.activity.pause) == ("training", "")


def test_a_stage_ends_with_an_error_inside(run):
    with pytest.raises(OSError, match="broken"), run.watchdog.stage("checkpoint"):
        raise OSError("broken")
    assert (run.activity.stage, run.activity.pause) == ("training", "")


def test_an_unknown_stage_is_refused(run):
    message = "stage 'inptu' is none of training, start, input"
    with pytest.raises(ValueError, match=message), run.watchdog.stage("inptu"):
        pass


def test_a_pause_is_timed_separately_from_the_step(run, clock):
    clock.go(2)
    with run.watchdog.stage("checkpoint"):
        clock.go(5)
        with run.watchdog.stage("device"):
            clock.go(1)
        assert run.activity.elapsed(clock()) == 6
    assert run.activity.elapsed(clock()) == 2
    clock.go(1)
    run.end_step()
    assert run.watchdog._durations["step"] == (3.0,)
    assert run.watchdog._durations["checkpoint"] == (6.0,)
    assert (run.activity.step, run.activity.elapsed(clock())) == (1_001, 0)


def test_a_pause_inside_another_counts_as_part_of_the_outer_one(run, clock):
    with run.watchdog.stage("evaluation"):
        clock.go(1)
        with run.watchdog.stage("checkpoint"):
            clock.go(2)
        clock.go(3)
    clock.go(4)
    run.end_step()
    durations = run.watchdog._durations
    assert (durations["evaluation"], durations["checkpoint"], durations["step"]) == ((6.0,), (), (4.0,))


def test_every_stage_and_step_is_a_sign_of_life(run, clock):
    signs = [run.activity.since]

    def note():
        signs.append(run.activity.since)
        clock.go(1)

    clock.go(1)
    with run.watchdog.stage("input"):
        note()
    note()
    run.end_step()
    note()
    assert signs == sorted(set(signs))


def test_only_the_latest_durations_are_kept(run):
    for step in range(WINDOW + 5):
        run.steps(1, step)
    assert run.watchdog._durations["step"] == tuple(range(5, WINDOW + 5))


# --- The account --------------------------------------------------------------------------------------------


def test_the_time_to_the_end_of_the_first_compilation_is_that_of_starting(tmp_path, clock):
    watchdog = Watchdog(print, tmp_path, clock=clock, before=4.0)
    for stage in ("start", "input", "compilation"):
        with watchdog.stage(stage):
            clock.go(2)
        clock.go(0.5)
    assert watchdog.spent() == dict.fromkeys(ledger.KINDS, 0) | {
        "starting": 4 + 3 * 2 + 2 * 0.5,
        "training": 0.5,
    }


def test_each_stage_counts_as_its_kind_and_all_add_up(run, clock):
    with run.watchdog.stage("compilation"):
        clock.go(1)
    for stage, seconds in (("input", 2), ("device", 3), ("log", 4), ("checkpoint", 5), ("evaluation", 6)):
        with run.watchdog.stage(stage):
            clock.go(seconds)
    with run.watchdog.stage("evaluation"), run.watchdog.stage("input"):
        clock.go(7)
    clock.go(8)
    spent = run.watchdog.spent()
    assert spent == {"starting": 1, "training": 3 + 4 + 8, "input": 2, "saving": 5, "evaluating": 6 + 7}
    assert sum(spent.values()) == clock() - 1_000


# --- Slow steps ---------------------------------------------------------------------------------------------


def test_a_slow_step_is_reported_once_while_it_lasts(run):
    run.steps(234)
    with run.watchdog.stage("input"):
        assert run.look(5) == []
        assert run.look(1) == [
            "step 1,235 has taken 6.0 s, 12 × the median, waiting for input: clips are read slowly: "
            "see to the disk, then to config.data.threads and config.data.workers"
        ]
        assert run.look(300) == []
    run.end_step()
    assert run.look() == []


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ("device", ", waiting for the devices: a device is slow or stuck"),
        ("log", ", writing the log"),
        ("training", ", in the training loop"),
    ],
)
def test_the_report_names_the_stage(run, stage, line):
    run.steps(20)
    with run.watchdog.stage(stage):
        assert run.look(6) == [f"step 1,021 has taken 6.0 s, 12 × the median{line}"]


def test_less_than_a_second_is_never_slow(run, clock):
    run.steps(20, 0.01)
    run.look()
    clock.go(0.9)
    assert run.look() == []
    run.end_step()
    assert run.look() == []


def test_nothing_is_slow_before_enough_steps_are_known(run):
    run.steps(19)
    assert run.look(60) == []


def test_at_most_one_slow_step_a_minute_is_reported(run):
    run.steps(100, 0.1)
    lines = []
    for _ in range(45):
        lines += run.look(2)
        run.end_step()
    assert [line.split(" has")[0] for line in lines] == ["step 1,101", "step 1,131"]


def test_a_step_that_stays_slow_is_reported_after_the_quiet_minute(run):
    run.steps(20)
    assert len(run.look(10)) == 1
    run.end_step()
    (line,) = run.look(QUIET)
    assert line.startswith("step 1,022 has taken 56 s, 112 × the median, in the training loop")


# --- Pauses -------------------------------------------------------------------------------------------------


def test_evaluating_saving_and_compiling_make_no_step_slow(run):
    with run.watchdog.stage("compilation"):
        assert run.look(300) == []
    run.steps(20)
    for pause in ("evaluation", "checkpoint"):
        with run.watchdog.stage(pause):
            assert run.look(300) == []
        run.steps(1)
        assert run.look() == []


def test_saving_that_takes_much_longer_than_before_is_reported(run, clock):
    for _ in range(3):
        run.steps(5)
        with run.watchdog.stage("checkpoint"):
            clock.go(0.5)
    with run.watchdog.stage("checkpoint"):
        assert run.look(6) == [
            "saving a checkpoint after step 1,015 has taken 6.0 s, 12 × the median: "
            "the disk of the run is slow or stuck"
        ]


def test_a_report_of_a_slow_pause_says_what_it_waits_for(run, clock):
    for _ in range(3):
        with run.watchdog.stage("evaluation"):
            clock.go(2)
    with run.watchdog.stage("evaluation"), run.watchdog.stage("device"):
        assert run.look(21) == [
            "evaluating after step 1,000 has taken 21 s, 10 × the median, waiting for the devices: "
            "a device is slow or stuck"
        ]


def test_a_hang_is_reported_at_half_the_time_to_the_end(run):
    with run.watchdog.stage("compilation"):
        assert run.look(15 * 60) == []
        assert run.look(1) == [
            "compiling after step 1,000 has taken 15 min: the run ends after 30 min without a sign of life"
        ]


def test_a_hang_is_reported_at_half_the_time_even_if_steps_were_long(run):
    run.steps(20, 200)
    assert run.look(15 * 60) == []
    (line,) = run.look(1)
    assert line == (
        "step 1,021 has taken 15 min, 5 × the median, in the training loop: "
        "the run ends after 30 min without a sign of life"
    )


# --- Several hosts ------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path, clock):
    """Two hosts that have both made 30 steps."""
    hosts = [Run(tmp_path, clock, process, 2) for process in range(2)]
    for _ in range(30):
        clock.go(0.5)
        for host in hosts:
            host.end_step()
            host.exchange_and_look()
    return hosts


def look_at_both(hosts, seconds):
    told = [[] for _ in hosts]
    for _ in range(seconds):
        hosts[0].clock.go(1)
        for host, lines in zip(hosts, told, strict=True):
            lines += host.look()
    return told


@pytest.mark.parametrize("culprit", [0, 1])
def test_a_host_names_another_host_that_waits_for_its_input(two, culprit):
    other = two[1 - culprit]
    for _ in range(2):  # the other host is two steps ahead
        other.end_step()
    with two[culprit].watchdog.stage("input"), other.watchdog.stage("device"):
        lines = look_at_both(two, 20)
    (line,), (own,) = lines[1 - culprit], lines[culprit]
    waits, _, named = line.rpartition(": ")
    assert waits == "step 33 has taken 6.0 s, 12 × the median, waiting for the devices"
    assert re.fullmatch(rf"host {culprit} has been waiting for input for \d\.0 s, after step 30", named)
    assert own.startswith(
        "step 31 has taken 6.0 s, 12 × the median, waiting for input: clips are read slowly"
    )


@pytest.mark.parametrize("culprit", [0, 1])
def test_a_silent_host_is_named_once_it_has_missed_its_heartbeats(two, culprit):
    other = two[1 - culprit]
    with other.watchdog.stage("device"):
        (line,) = look_at_both([other], 60)[0]
    # Its last heartbeat was after step 21: it writes one every ten seconds, or every twenty of these steps.
    assert line == (
        "step 31 has taken 33 s, 66 × the median, waiting for the devices: "
        f"host {culprit} has not been heard of for 30 s, last in the training loop after step 21"
    )


def test_a_host_that_waits_for_its_own_input_names_no_other_host(two):
    with two[0].watchdog.stage("input"):
        (line,) = look_at_both(two[:1], 60)[0]
    assert "waiting for input: clips are read slowly" in line


def test_a_host_that_fails_is_named_at_once(two, tmp_path, clock):
    with pytest.raises(OSError, match="no clip"), two[1].watchdog:
        raise OSError("no clip can be read")
    with two[0].watchdog.stage("device"):
        (line,) = look_at_both(two[:1], 20)[0]
    assert line.endswith("host 1 has stopped after step 30 with an error: see its own output")


def test_a_host_that_holds_up_nobody_is_not_named_when_the_devices_are_slow(two):
    with two[0].watchdog.stage("device"), two[1].watchdog.stage("device"):
        lines = look_at_both(two, 60)
    for (line,) in lines:
        assert line.endswith("waiting for the devices: a device is slow or stuck, or another host is")
        assert line.startswith(f"step 31 has taken {5 + PATIENCE + 1:.0f} s")


def test_hosts_that_are_all_slow_to_save_name_none_of_them(two, clock):
    def save(host, count):
        for _ in range(count):
            with host.watchdog.stage("checkpoint"):
                clock.go(0.5)

    save(two[0], 3)
    save(two[1], 3)
    with two[0].watchdog.stage("checkpoint"), two[1].watchdog.stage("checkpoint"):
        lines = look_at_both(two, 60)
    for (line,) in lines:
        assert line.endswith("the disk of the run is slow or stuck, or another host is")


# --- Its threads --------------------------------------------------------------------------------------------


def test_the_threads_end_with_the_run_and_leave_no_file(tmp_path, clock):
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "7.json").write_text("of a run on more hosts")
    with Run(tmp_path, clock, 0, 2, interval=0.001).watchdog:
        wait_until((tmp_path / "hosts" / "0.json").exists)
        assert {*THREADS} <= {thread.name for thread in threading.enumerate()}
    assert not {*THREADS} & {thread.name for thread in threading.enumerate()}
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_does_not_answer_holds_up_no_report(tmp_path, clock, monkeypatch):
    """Nor the end of the run for long."""
    released = threading.Event()
    monkeypatch.setattr(anywhere, "write", lambda *_: released.wait(HANG))
    run = Run(tmp_path, clock, interval=0.001)
    run.watchdog.__enter__()
    try:
        wait_until(lambda: any(thread.name == "heartbeats" for thread in threading.enumerate()))
        clock.go(16 * 60)
        wait_until(lambda: run.lines)
    finally:
        released.set()
        run.watchdog.__exit__(None, None, None)
    assert run.lines[0].startswith("step 1 has taken 16 min")


def test_an_error_is_in_the_last_heartbeat(tmp_path, clock):
    with pytest.raises(OSError, match="no clip"), Run(tmp_path, clock, step=7).watchdog:
        raise OSError("no clip can be read")
    found = heartbeats.read(tmp_path, 0)
    assert (found["stage"], found["step"], found["spent"]["starting"]) == (heartbeats.STOPPED, 7, 0)


def test_a_report_that_fails_stops_nothing_and_is_reported_once(tmp_path, clock, capsys):
    asked = []

    def fail(line):
        asked.append(line)
        raise OSError("no space left")

    with Watchdog(fail, tmp_path, clock=clock, interval=0.001) as watchdog:
        for step in range(2):
            clock.go(16 * 60)
            wait_until(lambda made=step + 1: len(asked) == made)
            watchdog.step(step + 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "watchdog: OSError('no space left'); the run goes on, but slow steps may go unreported"
