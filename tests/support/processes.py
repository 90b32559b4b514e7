"""What tests of commands share: looking after the processes that they start."""

import subprocess
import sys
import time
from pathlib import Path

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


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def descendants(pid):
    """Living processes whose parent is `pid`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def workers(pid):
    """Of these, those that the multiprocessing module has spawned to work."""
    return [child for child in descendants(pid) if "spawn_main" in command_line(child)]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def is_alive(pid):
    """Whether a process exists and is more than an entry that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
