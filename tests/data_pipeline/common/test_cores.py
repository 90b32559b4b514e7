"""Threads and worker processes follow the cores that a process may use."""

import os
import subprocess
import sys

import pytest

from data_pipeline.common.cores import usable_cores

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
