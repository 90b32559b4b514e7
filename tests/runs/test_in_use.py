"""A directory belongs to one process at a time, with and without locks, and to nobody once that has ended."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hicmae_jax.runs import in_use
from hicmae_jax.runs.in_use import FILE, Hold, InUseError
from tests.support.corpus_fixtures import tree
from tests.support.processes import HANG

HERE = socket.gethostname()
# Holds the directory until stdin ends, or until it is killed.
HOLDER = """
import sys
from hicmae_jax.runs.in_use import Hold
with Hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path / "run"`."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def no_locks(request, monkeypatch):
    """A file system without locks. A lease is waited for at once, but never expires."""

    def refuse(descriptor, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    patient(monkeypatch)


def patient(monkeypatch, expires_after=HANG):
    monkeypatch.setattr(in_use, "EXPIRES_AFTER", expires_after)
    monkeypatch.setattr(in_use, "LOOKS_EVERY", 0.01)
    monkeypatch.setattr(in_use, "SETTLES_AFTER", 0.01)


def write_name(directory, process=4711, host="node3", token="0f"):
    directory.mkdir(exist_ok=True)
    (directory / FILE).write_text(json.dumps({"process": process, "host": host, "token": token}))


def name_in(directory):
    return json.loads((directory / FILE).read_text())["process"]


# --- With locks ---------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_touches_nothing_however_it_names_the_directory(
    holder, tmp_path, monkeypatch
):
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path / "run")
    for name in (tmp_path / "run", Path("run"), Path("link"), Path("link/../run/.")):
        line = f"{name} is in use by process {holder.pid} on host {HERE}: wait for its end, or give another"
        with pytest.raises(InUseError) as refused, Hold(name):
            pass
        assert str(refused.value) == f"{line} directory"
    assert tree(tmp_path / "run") == before


def test_a_directory_is_free_at_once_when_its_process_is_killed(holder, tmp_path, monkeypatch):
    patient(monkeypatch)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert name_in(tmp_path / "run") == holder.pid
    with Hold(tmp_path / "run"):
        assert name_in(tmp_path / "run") == os.getpid()


def test_a_directory_is_free_and_as_before_when_its_process_has_ended(holder, tmp_path):
    holder.communicate()
    assert holder.returncode == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("left", ["", "{", "[]", '{"process": 3}'])
def test_a_file_cut_short_by_a_full_disk_is_replaced(tmp_path, left):
    (tmp_path / FILE).write_text(left)
    with Hold(tmp_path):
        assert name_in(tmp_path) == os.getpid()


def test_the_file_of_a_former_boot_is_replaced_at_once(tmp_path, monkeypatch):
    patient(monkeypatch)
    write_name(tmp_path, process=1, host=HERE)  # a process of that number is alive, but holds no lock
    with Hold(tmp_path):
        assert name_in(tmp_path) == os.getpid()


def test_what_was_made_is_removed_and_what_was_there_stays(tmp_path):
    with Hold(tmp_path / "runs/b"):
        assert (tmp_path / "runs/b" / FILE).exists()
    assert list(tmp_path.iterdir()) == []
    with Hold(tmp_path / "runs/b"):
        (tmp_path / "runs/b/config.json").touch()
    assert os.listdir(tmp_path / "runs/b") == ["config.json"]


def test_a_file_that_its_holder_removes_at_that_moment_is_made_again(tmp_path, monkeypatch):
    flock, removed = fcntl.flock, []

    def remove_first(descriptor, operation):
        flock(descriptor, operation)
        if not removed:
            (tmp_path / FILE).unlink()
            removed.append(descriptor)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with Hold(tmp_path):
        assert name_in(tmp_path) == os.getpid()
        with pytest.raises(InUseError), Hold(tmp_path):
            pass


@pytest.mark.parametrize("failing", [(os, "open"), (os, "pwrite"), (fcntl, "flock")])
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, failing, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(*failing, fail)
        line = rf"^{tmp_path} cannot be written \({os.strerror(number)}\): give another directory$"
        with pytest.raises(OSError, match=line), Hold(tmp_path):
            pass
    if failing != (fcntl, "flock"):
        assert os.listdir(tmp_path) == []
    with Hold(tmp_path):
        assert name_in(tmp_path) == os.getpid()


# --- Without locks, or with locks that do not reach the other host ------------------------------------------


def test_without_locks_a_living_process_keeps_others_out(no_locks, tmp_path, monkeypatch):
    monkeypatch.setattr(in_use, "RENEWED_EVERY", 0.01)
    with Hold(tmp_path):
        with pytest.raises(InUseError, match=f"is in use by process {os.getpid()} on host {HERE}: "):
            Hold(tmp_path).__enter__()
        assert name_in(tmp_path) == os.getpid()
    assert os.listdir(tmp_path) == []


def test_without_locks_a_dead_process_is_waited_for_before_its_directory_is_taken(
    no_locks, tmp_path, monkeypatch, capsys
):
    patient(monkeypatch, expires_after=0.1)
    write_name(tmp_path, host=HERE)
    with Hold(tmp_path):
        assert name_in(tmp_path) == os.getpid()
    assert "as if in use by process 4711" in capsys.readouterr().err


def test_of_two_that_start_without_locks_at_the_same_moment_one_is_refused(no_locks, tmp_path, monkeypatch):
    def sleep(seconds):
        if seconds == in_use.SETTLES_AFTER:
            write_name(tmp_path)  # the other process, which has seen no name either

    monkeypatch.setattr(in_use, "SETTLES_AFTER", 0.02)
    monkeypatch.setattr(in_use.time, "sleep", sleep)
    with pytest.raises(InUseError, match="is in use by process 4711 on host node3: "):
        Hold(tmp_path).__enter__()
    assert name_in(tmp_path) == 4711


def test_a_lock_that_does_not_reach_another_host_does_not_open_its_directory(tmp_path, monkeypatch):
    """Some network file systems grant every host the same lock."""
    patient(monkeypatch)
    write_name(tmp_path)
    times = iter(range(1, 1_000_000))

    def sleep(seconds):
        os.utime(tmp_path / FILE, ns=(0, next(times)))  # the other host is alive

    monkeypatch.setattr(in_use.time, "sleep", sleep)
    with pytest.raises(InUseError, match="is in use by process 4711 on host node3: "):
        Hold(tmp_path).__enter__()
    assert name_in(tmp_path) == 4711


def test_the_directory_of_a_dead_process_of_another_host_is_taken_after_the_wait(tmp_path, monkeypatch):
    patient(monkeypatch, expires_after=0.1)
    write_name(tmp_path)
    with Hold(tmp_path):
        assert name_in(tmp_path) == os.getpid()
    assert os.listdir(tmp_path) == []


def test_a_process_that_ends_while_another_waits_leaves_the_directory_to_it(tmp_path, monkeypatch):
    patient(monkeypatch)
    takes_over_from_one_that_ends(tmp_path, monkeypatch)


def test_so_it_does_without_locks(no_locks, tmp_path, monkeypatch):
    takes_over_from_one_that_ends(tmp_path, monkeypatch)


def takes_over_from_one_that_ends(directory, monkeypatch):
    write_name(directory)
    monkeypatch.setattr(in_use.time, "sleep", lambda seconds: _unlink_other(directory / FILE))
    with Hold(directory):
        assert name_in(directory) == os.getpid()
    assert os.listdir(directory) == []


def _unlink_other(path):
    if path.exists() and json.loads(path.read_text())["process"] == 4711:
        path.unlink()


def test_a_process_that_was_suspended_for_too_long_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(in_use, "RENEWED_EVERY", 0.01)
    lines, ended = [], threading.Event()

    def lost(line):
        lines.append(line)
        ended.set()

    with Hold(tmp_path, lost):
        write_name(tmp_path)
        assert ended.wait(HANG)
    assert lines[0].startswith(f"{tmp_path} was taken over by process 4711 on host node3, because ")
    assert name_in(tmp_path) == 4711  # the other process keeps it


def test_it_ends_with_one_line_and_code_1(tmp_path):
    code = HOLDER.replace(
        "with Hold", "from hicmae_jax.runs import in_use; in_use.RENEWED_EVERY = 0.01\nwith Hold"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        write_name(tmp_path)
        assert process.wait(HANG) == 1
        (line,) = process.stderr.read().splitlines()
    assert line.startswith(f"{tmp_path} was taken over by process 4711 on host node3")
