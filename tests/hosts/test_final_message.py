"""The last line on stderr and the exit code are the program's own, whatever a library's threads do."""

import signal
import subprocess
import sys

import pytest

TALKS = """
import os, sys, threading, time
from hicmae_jax.hosts import final_message as last_word

def talk():
    while True:
        os.write(2, b"a library\\n")

threading.Thread(target=talk, daemon=True).start()
time.sleep(0.1)
sys.stderr.write("before\\n")
last_word.say(sys.argv[1])
time.sleep(0.1)
os._exit(75)
"""

ABORTS = """
import ctypes, faulthandler, os, sys, threading, time
from hicmae_jax.hosts import final_message as last_word

if "shown" in sys.argv:
    faulthandler.enable()
if "waits" in sys.argv:
    last_word.before_an_abort()

def end():
    time.sleep(1)
    last_word.say("the end")
    os._exit(75)

threading.Thread(target=end).start()
ctypes.CDLL(None).abort()  # as a library does: `os.abort` would keep all other threads from running
"""


def run(program, *arguments):
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_after_the_last_line_libraries_go_unheard():
    done = run(TALKS, "the end: “größer”")
    *before, last = done.stderr.splitlines()
    assert (done.returncode, last) == (75, "the end: “größer”")
    assert set(before) == {"a library", "before"}


def test_without_a_last_line_libraries_are_heard():
    assert run(TALKS, "").stderr.splitlines()[-1] == "a library"


def test_who_reads_no_more_is_not_missed():
    program = """
import os
from hicmae_jax.hosts import final_message as last_word

read, write = os.pipe()
os.close(read)
os.dup2(write, 2)
last_word.say("the end")
os._exit(75)
"""
    assert run(program).returncode == 75


@pytest.mark.parametrize("shown", [[], ["shown"]], ids=["plain", "with faulthandler"])
def test_an_abort_waits_for_the_last_line(shown):
    done = run(ABORTS, "waits", *shown)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (75, "the end")
    assert ("Fatal Python error: Aborted" in done.stderr) == bool(shown)


def test_an_abort_would_not_wait():
    assert run(ABORTS).returncode == -signal.SIGABRT
