"""Every test runs on the CPU, as eight virtual devices, also where the machine has an accelerator."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of a test's time is compilation. What the compiler's optimisations would save later is less.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0"
)

import hypothesis
import pytest

# A slow machine is no error.
hypothesis.settings.register_profile("without deadline", deadline=None)
hypothesis.settings.load_profile("without deadline")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Directory in which the runs that tests start keep what they compile.

    Each process of pytest-xdist has one of its own, for JAX writes there without locks.
    """
    return tmp_path_factory.mktemp("compiled")
