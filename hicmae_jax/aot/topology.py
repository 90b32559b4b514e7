"""Describe TPU slices that this machine does not have, for the TPU compiler.

`libtpu`, which the `tpu` extra installs, holds the compiler. Environment variables tell it not to look for
TPUs. They must be set before the first topology is requested, since that loads the library.
"""

import importlib.util
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

# Without these, the library asks the machine's metadata server. Any accelerator type that it knows will do.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5p-16",
    # Otherwise a lock file stops a second process that compiles.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
EXAMPLES = ("v5e:16x16", "v5p:4x8x8", "v6e:16x16")


def devices(name: str) -> Sequence[jax.Device]:
    """The chips of a topology, as devices to compile for.

    Args:
        name: chip and network, such as `v5e:16x16`.

    Raises:
        ModuleNotFoundError: libtpu is not installed.
        ValueError: libtpu does not know the topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            "the TPU compiler is not installed: pip install 'hicmae_jax[tpu]' (it needs no TPU)"
        )
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"topology {name!r} is not known ({why}): give one such as {', '.join(EXAMPLES)}"
        ) from error
    return found.devices
