"""The benchmark of the interpreter's lock sees the lock, and writes its figures."""

import os

import pytest

from benchmarks.interpreter_lock import Observed
from data_pipeline.common.cores import usable_cores
from tests.support.benchmarks import figures_of


@pytest.mark.skipif(usable_cores() < 2, reason="one core reads and one looks")
def test_the_lock_is_seen_held_and_free():
    cores = os.sched_getaffinity(0)
    observed = Observed()
    shares = [observed.watch(work, 0.3)[0] for work in ("compute", "sleep", "compute", "sleep")]
    observed.close()
    os.sched_setaffinity(0, cores)
    assert min(shares[::2]) > 0.9
    assert max(shares[1::2]) < 0.1


@pytest.mark.slow
@pytest.mark.skipif(usable_cores() < 2, reason="one core reads and one looks")
def test_the_benchmark_writes_its_figures(tmp_path):
    figures = figures_of("interpreter_lock", tmp_path / "figures.json", "--clips=32", "--rounds=1")
    assert set(figures) == {"samples_a_second", "ms_a_sample", "locked_ms_seen", "locked_ms_at_most"}
    assert 0 < figures["locked_ms_seen"] < figures["ms_a_sample"]
    assert 0 < figures["locked_ms_at_most"] < figures["ms_a_sample"]
