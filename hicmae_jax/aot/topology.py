"""Describe TPU slices and hosts of GPUs that this machine does not have, for their compilers.

`libtpu`, which the `tpu` extra installs, holds the compiler for TPUs; JAX's CUDA plugin, of the `cuda` extra,
holds the one for GPUs. Environment variables tell them not to look for devices. They must be set before the
first topology is requested, since that loads the library.
"""

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence

import jax
from jax.experimental import topologies

from hicmae_jax.aot.gpu_targets import TARGETS

_ENVIRONMENT: Mapping[str, Mapping[str, str]] = {
    # Without these, the library asks the machine's metadata server. Any accelerator type it knows will do.
    "tpu": {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5p-16",
        # Otherwise a lock file stops a second process that compiles.
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    },
    "cuda": {"CUDA_VISIBLE_DEVICES": "-1"},  # do not occupy a GPU that this machine may have
}
_CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
EXAMPLES = ("v5e:16x16", "v5p:4x8x8", "v6e:16x16")


def platform(name: str) -> str:
    """The devices of a topology as `chips.platform` names them: `cuda` for a kind of GPU, or else `tpu`."""
    return "cuda" if name.partition(":")[0] in TARGETS else "tpu"


def devices(name: str) -> Sequence[jax.Device]:
    """The chips of a topology, as devices to compile for.

    Args:
        name: a TPU and its network, such as `v5e:16x16`; or a GPU, hosts and GPUs of a host, such as
            `h200:2x8`.

    Raises:
        ModuleNotFoundError: the compiler is not installed.
        ValueError: the compiler does not know the topology.
    """
    kind = platform(name)
    for variable, value in _ENVIRONMENT[kind].items():
        os.environ.setdefault(variable, value)
    return _gpus(name) if kind == "cuda" else _tpus(name)


def _tpus(name: str) -> Sequence[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            "the TPU compiler is not installed: pip install 'hicmae_jax[tpu]' (it needs no TPU)"
        )
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"topology {name!r} is not known ({why}): give one such as {', '.join(EXAMPLES)}; or of GPUs, "
            f"such as {', '.join(f'{kind}:1x8' for kind in TARGETS)}"
        ) from error
    return found.devices


def _gpus(name: str) -> Sequence[jax.Device]:
    kind, _, network = name.partition(":")
    sides = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", network)
    if not sides:
        raise ValueError(
            f"topology {name!r} is not known: give the hosts and the GPUs of a host, such as {kind}:2x8"
        )
    if not any(map(importlib.util.find_spec, _CUDA_PLUGINS)):
        raise ModuleNotFoundError(
            "the GPU compiler is not installed: pip install 'hicmae_jax[cuda]' (6 GB; it needs no GPU)"
        )
    found = topologies.get_topology_desc(
        platform="cuda",
        target_config=TARGETS[kind].config(),
        topology=f"1x{sides[1]}x{sides[2]}",  # the first number: groups of hosts that NVLink joins
    )
    return found.devices
