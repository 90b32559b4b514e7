"""Every test runs on the CPU, as eight virtual devices, also where the machine has an accelerator."""

import gc
import os

from tests.support.xla_flags import xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
# gcsfs reads it when it is imported; see `tests.support.bucket_server`.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags(8)}"

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


@pytest.fixture(scope="module", autouse=True)
def quick_garbage_collection():
    """Exempt what earlier modules left from collections: with all that JAX keeps, each would take seconds."""
    gc.freeze()


@pytest.fixture
def bucket():
    """A server of buckets, which this process and those that it starts use."""
    from tests.support.bucket_server import served

    with served() as server:
        yield server
