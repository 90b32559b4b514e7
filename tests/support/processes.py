"""Starting processes, waiting for them, and finding those that they start."""

import subprocess
import sys
import time
from pathlib import Path

HANG = 600
"""Seconds after which a test takes something to hang. It only ends a test that would never end: no test may
depend on anything being quicker."""

# A shell starts background jobs with the interrupt ignored, and children inherit that.
INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""


def start_module(module, *arguments, env=None):
    """Starts ``python -m module`` as a terminal would: interruptible, in a process group of its own."""
    command = [sys.executable, "-c", INTERRUPTIBLE, module, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=env)


def wait_until(condition):
    """Wait until `condition()` is true; an AssertionError when it does not become so."""
    end = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < end, f"still not true after {HANG} s"
        time.sleep(0.002)


def descendants(pid):
    """Living processes whose parent is `pid`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def workers(pid):
    """Those of them that the multiprocessing module has spawned as workers."""
    return [child for child in descendants(pid) if "spawn_main" in command_line(child)]


def command_line(pid):
    """The words of a process's command, each with a NUL after it; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""


def is_alive(pid):
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
