"""The benchmark of the input pipeline runs and writes its figures."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_benchmark_writes_its_figures(tmp_path):
    file = tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.input_pipeline",
        "--clips=32",
        "--rounds=1",
        f"--json={file}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
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
