"""Threads and worker processes follow the cores that a process may use."""

import os
import subprocess
import sys

import pytest

from data_pipeline.common.cores import usable_cores

V1 = "cpu,cpuacct/cpu.cfs"
DEFAULTS = """
from absl import flags
from data_pipeline.common.cores import usable_cores
from data_pipeline.reading.pipeline import PipelineConfig
from launch import prepare
prepare.define_flags()
print(usable_cores(), PipelineConfig.threads, flags.FLAGS["workers"].default)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no process can be bound to a core here")
def test_one_core_means_one_thread_and_one_worker():
    cores = os.sched_getaffinity(0)
    assert usable_cores() == len(cores)
    bind = f"import os; os.sched_setaffinity(0, {{{min(cores)}}})"
    done = subprocess.run([sys.executable, "-c", bind + DEFAULTS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/pod/job\n", {"pod/cpu.max": "200000 100000\n", "pod/job/cpu.max": "max 100000\n"}, 2),
        ("0::/outside\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "12800000 100000\n"}, 64),
        ("4:cpu,cpuacct:/\n", {f"{V1}_quota_us": "150000", f"{V1}_period_us": "50000"}, 3),
        ("4:cpu,cpuacct:/\n", {f"{V1}_quota_us": "-1", f"{V1}_period_us": "50000"}, 64),
        ("4:memory:/\n", {"memory/cpu.max": "100000 100000"}, 64),
        ("", {}, 64),
    ],
)  # fmt: skip
def test_a_share_of_all_cores_counts(tmp_path, monkeypatch, groups, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert usable_cores(tmp_path) == cores
