"""The command `report`: what it writes, and one line for what it cannot do."""

import subprocess
import sys

import pytest

from tests.support.made_up_study import settings, write_run
from tests.support.paths import ROOT
from tests.support.processes import HANG


def run(*flags):
    command = [sys.executable, "-m", "launch.report", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=HANG)


def test_a_report_of_any_runs_is_written_and_written_again(tmp_path):
    for name in ("a", "b,c"):
        write_run(tmp_path / name, settings("mu", 10), 1e6, 10)
    flags = (f'--runs={tmp_path}/a,"{tmp_path}/b,c"', f"--output={tmp_path}/out")
    for _ in range(2):
        done = run(*flags)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[0] == "runs        2 runs: 2 finished"
        assert done.stdout.splitlines()[1].startswith("no law      ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "report.md",
        "runs.csv",
    ]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--study=x", "--runs=y"), "give either --study or --runs: what the report is about"),
        (("--study=no/such",), "no/such is no study: it has no study.json"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, flags, line):
    done = run(*flags, f"--output={tmp_path}/out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"report: {line}\n"
    assert not (tmp_path / "out").exists()
