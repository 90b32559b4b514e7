"""TPUs that are not there: their compiler compiles for any of their networks, on any machine.

`libtpu`, which the `tpu` extra installs, holds the compiler. It is told by environment variables not to look
for TPUs, and has to be told before it is loaded, which is when a topology is first asked for.
"""

import importlib.util
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

# What the library asks of a machine's metadata otherwise. The type only has to be one that it knows.
_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5p-16",
    # Or a second process that compiles is stopped by a lock.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
EXAMPLES = ("v5e:16x16", "v5p:4x8x8", "v6e:16x16")


def devices(name: str) -> Sequence[jax.Device]:
    """The chips of a topology, to compile for.

    Args:
        name: chip and network, as `v5e:16x16`.

    Raises:
        ModuleNotFoundError: without libtpu.
        ValueError: a topology that it does not know.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            "the TPU compiler is not installed: pip install 'hicmae_jax[tpu]' (it needs no TPU)"
        )
    for variable, value in _ALONE.items():
        os.environ.setdefault(variable, value)
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"topology {name!r} is not known ({why}): give one such as {', '.join(EXAMPLES)}"
        ) from error
    return found.devices
