"""The final line is the last line on stderr, even while threads of libraries write."""

import subprocess
import sys

from tests.support.processes import HANG

WRITES_ALL_THE_TIME = """
import os, sys, threading
from hicmae_jax.hosts import final_message

written = threading.Semaphore(0)

def write():
    while True:
        os.write(2, b"a library\\n")
        written.release()

def wait_for_lines(count):
    for _ in range(count):
        written.acquire()

threading.Thread(target=write, daemon=True).start()
wait_for_lines(10)
sys.stderr.write("before\\n")
final_message.write(sys.argv[1])
while written.acquire(blocking=False):
    pass
wait_for_lines(10)
os._exit(75)
"""


def run(program, *arguments):
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG)


def test_nothing_follows_the_final_line():
    done = run(WRITES_ALL_THE_TIME, "the end: “größer”")
    *before, last = done.stderr.splitlines()
    assert (done.returncode, last) == (75, "the end: “größer”")
    assert set(before) == {"a library", "before"}


def test_an_empty_final_line_changes_nothing():
    assert run(WRITES_ALL_THE_TIME, "").stderr.splitlines()[-1] == "a library"


def test_a_closed_pipe_is_no_error():
    program = """
import os
from hicmae_jax.hosts import final_message

read, write = os.pipe()
os.close(read)
os.dup2(write, 2)
final_message.write("the end")
os._exit(75)
"""
    assert run(program).returncode == 75
