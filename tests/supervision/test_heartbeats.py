"""Heartbeats name the host that holds up the others, and no other host."""

import datetime

import pytest

from hicmae_jax.supervision import heartbeats
from hicmae_jax.supervision.heartbeats import SILENT_AFTER, STOPPED, Heartbeats
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def hosts(tmp_path, clock):
    found = [Heartbeats(tmp_path, process, 3, clock) for process in range(3)]
    for host in found:
        host.begin()
    return found


def asked_twice(hosts, clock, step, stage, *others):
    """The first host asks twice who holds it up; the others write in between. Returns the second answer."""
    hosts[0].held_up_by(step, stage)
    for host, beat in zip(hosts[1:], others, strict=True):
        host.write(*beat)
    clock.go(2)
    return hosts[0].held_up_by(step, stage)


def test_a_host_that_waits_for_its_input_at_an_earlier_step_is_named(hosts, clock):
    told = asked_twice(hosts, clock, 12, "device", (12, "device", 9.0), (10, "input", 12.4))
    assert told == "host 2 has been waiting for input for 12 s, after step 10"


def test_a_host_that_does_something_else_at_the_same_step_is_named(hosts, clock):
    told = asked_twice(hosts, clock, 12, "device", (12, "checkpoint", 9.0), (12, "training", 12.0))
    assert told == "host 1 has been saving a checkpoint for 9.0 s, after step 12"


@pytest.mark.parametrize("stage", ["device", "checkpoint"])
def test_hosts_that_wait_as_this_one_does_are_not_named(hosts, clock, stage):
    assert asked_twice(hosts, clock, 12, stage, (12, stage, 9.0), (11, "device", 9.0)) == ""


def test_a_host_further_on_is_not_named(hosts, clock):
    assert asked_twice(hosts, clock, 12, "device", (13, "input", 9.0), (14, "log", 1.0)) == ""


def test_a_heartbeat_from_before_this_host_was_held_up_names_no_host(hosts, clock):
    hosts[1].write(11, "input", 0.1)
    hosts[2].write(11, "input", 0.1)
    assert hosts[0].held_up_by(12, "device") == ""
    clock.go(8)
    assert hosts[0].held_up_by(12, "device") == ""


def test_a_host_that_has_stopped_writing_is_named(hosts, clock):
    for _ in range(4):
        hosts[1].write(12, "device", 1.0)
        told = asked_twice(hosts, clock, 12, "device", (12, "device", 1.0), (11, "input", 0.1))
    assert told == "host 2 has been waiting for input for 0.1 s, after step 11"
    clock.go(SILENT_AFTER)
    hosts[1].write(12, "device", 9.0)
    told = hosts[0].held_up_by(12, "device")
    assert told == "host 2 has not been heard of for 30 s, last waiting for input after step 11"


def test_a_host_that_never_wrote_is_named(hosts, clock):
    hosts[0].held_up_by(0, "device")
    clock.go(45)
    hosts[2].write(0, "device", 1.0)
    assert hosts[0].held_up_by(0, "device") == "host 1 has not been heard of for 45 s"


def test_silence_is_forgotten_when_the_run_continues(hosts, clock):
    for host in hosts[1:]:
        host.write(11, "input", 0.1)
    hosts[0].held_up_by(12, "device")
    hosts[0].forget()
    clock.go(45)
    assert hosts[0].held_up_by(50, "device") == ""


def test_a_host_that_has_ended_with_an_error_is_named_at_once(hosts):
    hosts[2].write(11, STOPPED, 0.0)
    told = hosts[0].held_up_by(12, "device")
    assert told == "host 2 has stopped after step 11 with an error: see its own output"


def test_the_other_hosts_watch_the_first(hosts, clock):
    hosts[1].held_up_by(12, "device")
    hosts[0].write(11, "checkpoint", 60.0)
    told = hosts[1].held_up_by(12, "device")
    assert told == "host 0 has been saving a checkpoint for 60 s, after step 11"


def test_files_of_an_earlier_run_are_ignored(tmp_path, clock):
    for process, beat in enumerate([(500, "input"), (500, STOPPED), (500, "input"), (499, STOPPED)]):
        Heartbeats(tmp_path, process, 4, clock).write(*beat, 0.0)
    first, second = (Heartbeats(tmp_path, process, 2, clock) for process in range(2))
    first.begin()
    second.begin()
    # The second host has not written yet.
    assert first.held_up_by(600, "device") == ""
    clock.go(40)
    assert first.held_up_by(600, "device") == "host 1 has not been heard of for 40 s"
    second.write(600, "device", 1.0)
    assert first.held_up_by(600, "device") == ""
    assert sorted(path.name for path in (tmp_path / "hosts").iterdir()) == ["0.json", "1.json"]


def test_no_file_is_left_when_all_hosts_have_ended(hosts, tmp_path):
    for host in hosts:
        host.write(12, "device", 1.0)
    for host in hosts:
        host.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_one_host_writes_too_and_waits_for_none(tmp_path):
    Heartbeats(tmp_path, 1, 2).write(12, "input", 1.0)  # of a run on two hosts
    alone = Heartbeats(tmp_path, 0, 1, about={"began": "then", "host": "node3"})
    alone.begin()
    alone.write(12, "input", 1.04, {"starting": 2.0})
    assert alone.held_up_by(12, "device") == ""
    found = heartbeats.read_all(tmp_path)
    assert list(found) == [0]
    time = datetime.datetime.fromisoformat(found[0].pop("time"))
    assert abs(datetime.datetime.now(datetime.UTC) - time) < datetime.timedelta(seconds=60)
    told = {"beat": 1, "step": 12, "stage": "input", "seconds": 1.0, "spent": {"starting": 2.0}}
    assert found[0] == told | {"began": "then", "host": "node3"}
    alone.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_heartbeat_that_is_not_there_or_damaged_is_not_read(tmp_path):
    assert heartbeats.read(tmp_path, 0) is None
    assert heartbeats.read_all(tmp_path) == {}
    (tmp_path / "hosts").mkdir()
    for name, text in (("0.json", "{"), ("1.json", '{"step": 1}'), ("x.json", "{}"), ("2.json.partial", "")):
        (tmp_path / "hosts" / name).write_text(text)
    assert heartbeats.read_all(tmp_path) == {}


def test_a_disk_that_fails_raises_no_error(tmp_path, clock):
    (tmp_path / "hosts").write_text("a file where the directory should be")
    host = Heartbeats(tmp_path, 0, 2, clock)
    host.begin()
    host.write(12, "input", 1.0)
    assert host.held_up_by(12, "device") == ""
    host.remove()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": 1}', '{"step": 1, "stage": "x", "seconds": 1}'])
def test_a_damaged_file_names_no_host(hosts, clock, tmp_path, text):
    hosts[1].write(11, "input", 9.0)
    hosts[2].write(12, "device", 9.0)
    hosts[0].held_up_by(12, "device")
    (tmp_path / "hosts" / "1.json").write_text(text)
    assert hosts[0].held_up_by(12, "device") == ""
