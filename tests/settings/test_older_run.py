"""A run that was begun before settings were renamed goes on under the new names, bit for bit."""

import os
import subprocess
import sys

import pytest

from tests.support import older_run, shrunk_recipe
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def continued(tmp_path_factory):
    """Standard output of the continued run, and its directory."""
    directory = tmp_path_factory.mktemp("older")
    data = shrunk_recipe.write_clips(directory / "set")
    older_run.unpack(directory / "run")
    arguments = shrunk_recipe.arguments(data.name, "run", checkpoint__keep=10)
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        # One device, as the older version had.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "launch.pretrain", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, directory / "run"


@pytest.mark.slow
def test_an_older_run_goes_on_with_no_change_of_settings(continued):
    output, _ = continued
    assert "going on    from step 2 of 6" in output
    assert "changed" not in output


@pytest.mark.slow
def test_an_older_run_ends_as_the_older_version_ended_it(continued):
    """Bit for bit on the same kind of CPU with the same jaxlib.

    XLA compiles different code for different CPUs, which rounds differently. Code for SSE4.2, on the golden's
    CPU, gave metrics within 4e-7 and norms of parameters and moments within 2e-6.
    """
    expected, found = older_run.recorded(), older_run.ending(continued[1])
    if found["machine"] == expected["machine"]:
        assert found == expected
        return
    assert found["hashes"].keys() == expected["hashes"].keys()
    assert found["norms"] == pytest.approx(expected["norms"], rel=1e-5)
    for line, other in zip(found["metrics"], expected["metrics"], strict=True):
        assert line == pytest.approx(other, rel=1e-6)
