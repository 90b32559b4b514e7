"""What tests may use of NVIDIA's: JAX's CUDA plugin, which compiles without a GPU too, and a GPU."""

import importlib.util
import os
from pathlib import Path

import pytest

PLUGIN = any(map(importlib.util.find_spec, ("jax_cuda12_plugin", "jax_cuda13_plugin")))

needs_plugin = pytest.mark.skipif(not PLUGIN, reason="JAX's CUDA plugin is not installed")
needs_gpu = pytest.mark.skipif(
    not (PLUGIN and Path("/dev/nvidia0").exists()), reason="there is no NVIDIA GPU, or no CUDA plugin"
)


def environment() -> dict[str, str]:
    """Of a process that uses the GPU; the tests themselves run on the CPU."""
    return os.environ | {"JAX_PLATFORMS": "cuda", "XLA_FLAGS": "", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
