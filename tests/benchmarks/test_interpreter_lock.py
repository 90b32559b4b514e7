"""The benchmark of the interpreter's lock sees the lock, and writes its figures."""

import pytest

from benchmarks.interpreter_lock import LEFT_SECONDS, Observed
from data_pipeline.common.cores import usable_cores
from tests.support.benchmarks import figures_of


def test_the_lock_is_seen_held_and_free():
    observed = Observed()
    shares = [observed.watch(work, 0.3)[0] for work in ("compute", "sleep", "compute", "sleep")]
    observed.close()
    assert min(shares[::2]) > 0.9
    assert max(shares[1::2]) < 0.1


@pytest.mark.slow
@pytest.mark.skipif(usable_cores() < 2, reason="one core reads and one looks")
def test_the_benchmark_writes_its_figures(tmp_path):
    figures = figures_of("interpreter_lock", tmp_path / "figures.json", "--clips=32", "--rounds=1")
    assert all(value > 0 for value in figures.values())
    assert figures["locked_ms_seen"] < figures["ms_a_sample"]
    for left in LEFT_SECONDS:
        of_left = {
            name.rpartition("_")[0]: v for name, v in figures.items() if name.endswith(f"_{1e3 * left:g}ms")
        }
        assert set(of_left) == {"share_left", "samples_a_second", "locked_ms_taken_away"}
        assert of_left["share_left"] < 1
