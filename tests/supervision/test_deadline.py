"""A process that hangs ends in time and writes its stacks, wherever it hangs; no other process ends."""

import faulthandler
import os
import subprocess
import sys
import textwrap

import pytest

from hicmae_jax.supervision.deadline import EXIT_CODE, Deadline
from tests.support.fake_clock import FakeClock
from tests.support.processes import HANG, wait_until

HANGS = """
import ctypes, os, sys
from hicmae_jax.supervision.watchdog import Watchdog

def read_what_never_comes():
    os.read(os.pipe()[0], 1)

def keep_the_interpreter():
    ctypes.PyDLL(None).sleep(1000)

print("so far so good")
with Watchdog(print, sys.argv[1], step=1234, minutes=0.03, interval=0.05) as watchdog:
    with watchdog.stage("input"):
        {hang}()
"""


def hang(directory, how):
    command = [sys.executable, "-c", textwrap.dedent(HANGS.format(hang=how)), str(directory)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False, env=buffered)


@pytest.fixture
def clock():
    return FakeClock()


class Heard:
    """A sign of life, and the number of times it was read."""

    value, asked = 0.0, 0

    def __call__(self):
        self.asked += 1
        return self.value


def deadline(clock, heard, tmp_path, **choices):
    return Deadline(60.0, heard, lambda: "it hangs", tmp_path / "stacks.txt", clock, **choices)


# --- When it is time ----------------------------------------------------------------------------------------


def test_the_time_is_up_after_so_long_without_a_sign_of_life(clock, tmp_path):
    watched = deadline(clock, Heard(), tmp_path)
    over = []
    for _ in range(61):
        clock.go(1)
        over.append(watched.is_over())
    assert over.index(True) == 59


def test_a_sign_of_life_restarts_the_time(clock, tmp_path):
    heard = Heard()
    watched = deadline(clock, heard, tmp_path)
    for second in range(300):
        clock.go(1)
        if second % 59 == 0:
            heard.value = clock()
        assert not watched.is_over()


def test_time_in_which_the_process_was_suspended_does_not_count(clock, tmp_path):
    watched = deadline(clock, Heard(), tmp_path)
    clock.go(1)
    assert not watched.is_over()
    clock.go(3_600)
    assert not watched.is_over()
    clock.go(1)
    assert not watched.is_over()


def test_the_c_timer_is_postponed_regularly_and_cancelled_at_the_end(clock, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda later, **_: calls.append(later))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: calls.append("off"))
    heard = Heard()
    watched = deadline(clock, heard, tmp_path, interval=0.001)
    watched.start()
    for second in range(1, 46):
        heard.value, asked = second, heard.asked
        clock.go(1)
        wait_until(lambda asked=asked: heard.asked > asked + 1)
    watched.stop()
    assert calls.pop() == "off"
    # Set at the start and every 15 s, each time for a later end than that by Python's own thread.
    assert len(calls) == 4
    assert min(calls) > 60 + 2 * 30


def test_a_run_that_ends_leaves_no_thread_and_no_file(clock, tmp_path):
    watched = deadline(clock, Heard(), tmp_path)
    watched.start()
    watched.stop()
    assert not watched._thread.is_alive()
    assert list(tmp_path.iterdir()) == []


# --- The end ------------------------------------------------------------------------------------------------


def test_a_blocked_main_thread_ends_the_process_with_stacks_and_one_line(tmp_path):
    done = hang(tmp_path, "read_what_never_comes")
    assert done.returncode == EXIT_CODE == 70
    stacks = tmp_path / "stacks-0.txt"
    *_, line = done.stderr.splitlines()
    assert line.startswith("watchdog: no progress for ")
    assert line.endswith(
        " s, waiting for input after step 1,234: ended; run the same command to go on. "
        f"The stacks of all threads are in {stacks}"
    )
    for text in (done.stderr, stacks.read_text()):
        assert "in read_what_never_comes" in text
    assert "waiting for input after step 1,234" in stacks.read_text().splitlines()[0]
    assert done.stdout.startswith("so far so good\n")


def test_a_later_hang_appends_its_stacks(tmp_path):
    (tmp_path / "stacks-0.txt").write_text("those before\n")
    assert hang(tmp_path, "read_what_never_comes").returncode == EXIT_CODE
    text = (tmp_path / "stacks-0.txt").read_text()
    assert text.startswith("those before\n")
    assert "in read_what_never_comes" in text


def test_a_disk_that_hangs_too_does_not_delay_the_end(tmp_path):
    os.mkfifo(tmp_path / "stacks-0.txt")  # opening a FIFO blocks until there is a reader
    done = hang(tmp_path, "read_what_never_comes")
    assert done.returncode == EXIT_CODE
    assert "in read_what_never_comes" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        f"are above, as {tmp_path / 'stacks-0.txt'} cannot be written"
    )


def test_the_c_timer_ends_a_process_whose_gil_is_held(tmp_path):
    done = hang(tmp_path, "keep_the_interpreter")
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:0")
    assert "in keep_the_interpreter" in done.stderr
