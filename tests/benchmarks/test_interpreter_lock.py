"""The benchmark of the interpreter's lock sees the lock, and writes its figures."""

import pytest

from benchmarks.interpreter_lock import WANTED, Observed
from tests.support.benchmarks import figures_of


def test_the_lock_is_seen_held_and_free():
    observed = Observed()
    shares = [observed.watch(work, 0.3)[0] for work in ("compute", "sleep", "compute", "sleep")]
    observed.close()
    assert min(shares[::2]) > 0.9
    assert max(shares[1::2]) < 0.1


@pytest.mark.slow
def test_the_benchmark_writes_its_figures(tmp_path):
    figures = figures_of("interpreter_lock", tmp_path / "figures.json", "--clips=32", "--rounds=1")
    assert all(value > 0 for value in figures.values())
    assert figures["locked_ms_a_sample"] < figures["ms_a_sample"]
    assert figures["most_samples_a_second"] == pytest.approx(1e3 / figures["locked_ms_a_sample"])
    assert figures["share_of_wanted"] == pytest.approx(figures["most_samples_a_second"] / WANTED)
