"""Memory that a step frees is there for the next step, and only runs on CPUs ask for it."""

import subprocess
import sys

import pytest

from hicmae_jax.runs import host_memory
from tests.support.paths import ROOT

# Pages that each of a few calls takes from the system, for an array of 200 MB.
PROGRAM = """
import resource, sys
from hicmae_jax.runs import host_memory
assert "jax" not in sys.modules
kept = sys.argv[1] == "keep" and host_memory.keep_freed_memory()
import jax, jax.numpy as jnp
double = jax.jit(lambda x: 2 * x)
x = jnp.ones(50_000_000)
taken = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(double(x))
    taken.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, min(taken) * resource.getpagesize())
"""


def bytes_taken(how):
    """Whether the settings were made, and the fewest bytes that a call took from the system."""
    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": ""}
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept, taken = done.stdout.split()
    return kept == "True", int(taken)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_a_call_finds_the_memory_of_the_call_before():
    # A small array may be in the way of a large one, which then takes new memory: try three processes.
    for _ in range(3):
        kept, taken = bytes_taken("keep")
        if not kept:
            pytest.skip("another C library than glibc")
        if taken < 10e6:
            return
    assert taken < 10e6


@pytest.mark.parametrize(
    ("platforms", "expected"), [("cpu", True), ("cuda", False), ("tpu,cpu", False), ("cuda,cpu", False)]
)
def test_the_platform_that_the_user_names_decides(platforms, expected):
    assert host_memory.computes_on_cpus(platforms) is expected


@pytest.mark.parametrize("unset", [None, ""])
def test_without_a_plugin_for_accelerators_the_devices_are_cpus(monkeypatch, unset):
    monkeypatch.setattr(host_memory.importlib.metadata, "entry_points", lambda group: ())
    monkeypatch.setattr(host_memory.importlib.util, "find_spec", lambda name: None)
    assert host_memory.computes_on_cpus(unset)


def test_an_installed_plugin_may_find_accelerators(monkeypatch):
    monkeypatch.setattr(host_memory.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(host_memory.importlib.metadata, "entry_points", lambda group: ("xla_cuda12",))
    assert not host_memory.computes_on_cpus(None)
    monkeypatch.setattr(host_memory.importlib.metadata, "entry_points", lambda group: ())
    monkeypatch.setattr(host_memory.importlib.util, "find_spec", lambda name: object())
    assert not host_memory.computes_on_cpus(None)
