"""The benchmark of the input pipeline runs and writes its figures."""

import pytest

from tests.support.benchmarks import figures_of


@pytest.mark.slow
def test_the_benchmark_writes_its_figures(tmp_path):
    figures = figures_of("input_pipeline", tmp_path / "figures.json", "--clips=32", "--rounds=1")
    assert set(figures) == {
        "samples_per_cpu_second",
        "ratio_to_jpeg",
        "ratio_to_mp4",
        "bytes_per_8s_clip",
        "cores_for_4000_per_second",
    }
    assert all(value > 0 for value in figures.values())
    # The size is the only figure that does not depend on the machine. A frame has less than 9 kB on average.
    assert figures["bytes_per_8s_clip"] <= 2.2e6
    assert figures["cores_for_4000_per_second"] == pytest.approx(4_000 / figures["samples_per_cpu_second"])
