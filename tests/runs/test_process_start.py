"""From when on the time of a run counts."""

import datetime
import os
import subprocess
import sys
import time

import pytest

from hicmae_jax.runs import alive, process_start
from hicmae_jax.runs.process_start import ProcessStart
from tests.support.paths import ROOT
from tests.support.processes import HANG

PROGRAM = """
import time
time.sleep(1)
from hicmae_jax.runs import process_start
process_start.count()
for _ in range(2):
    start = process_start.ProcessStart()
    print(start.began, start.seconds())
"""


def test_a_command_counts_from_the_begin_of_its_process_and_its_second_run_from_its_own():
    before = time.time()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, check=True, text=True, capture_output=True, timeout=HANG
    )
    after = time.time()
    (began, seconds), (own, of_own) = (line.split() for line in done.stdout.splitlines())
    # The system tells the begin of a process to a hundredth of a second.
    begun = datetime.datetime.fromisoformat(began).timestamp()
    assert before - 0.02 <= begun <= after - 1
    assert 1 <= float(seconds) <= after - before + 0.02
    assert datetime.datetime.fromisoformat(own).timestamp() - begun >= 0.9
    assert float(of_own) < float(seconds)


def test_any_other_run_counts_from_its_own_begin():
    start = ProcessStart()
    assert 0 <= start.seconds() < 60
    begun = datetime.datetime.fromisoformat(start.began).timestamp()
    assert begun == pytest.approx(time.time(), abs=60)
    assert start.about()["began"] == start.began
    assert alive.is_alive(start.about()["identity"])
    assert f"/{os.getpid()}/" in start.about()["identity"]


def test_a_system_that_does_not_tell_the_begin_counts_from_now(monkeypatch):
    monkeypatch.setattr(alive, "_start", lambda process: (_ for _ in ()).throw(FileNotFoundError("/proc")))
    process_start.count()
    assert ProcessStart().seconds() < 60
