"""What the contrastive loss holds and sends on a slice of TPUs, by the TPU compiler; no TPU is needed.

    pip install libtpu
    export TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu TPU_WORKER_HOSTNAMES=localhost TPU_ACCELERATOR_TYPE=v5p-16
    python -m benchmarks.contrast_memory [--topology=v5e:16x16] [--batch=32768] [--group=40] [--chunk=2048]

The loss alone, with its gradient in the features, of three levels of 512: as XLA splits the plain form, and
as `hicmae_jax.objective.contrastive` does. A line each: MiB of temporaries in a chip's memory (what fits on
the chip itself needs none), MiB in use at most, and messages by kind, how many and the MiB that they leave
on a chip; those in the loop over levels count for each.
"""

import collections
import re
from collections.abc import Sequence

import jax
import numpy as np
from absl import app, flags
from jax.experimental import topologies

from hicmae_jax.objective import contrastive
from hicmae_jax.training import sharding

LEVELS, WIDTH = 3, 512
MIB = 2**20
MESSAGES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:16x16", "chips to compile for")
_BATCH = flags.DEFINE_integer("batch", 32_768, "clips")
_GROUP = flags.DEFINE_integer("group", None, "clips in a group of negatives; all by default")
_CHUNK = flags.DEFINE_integer("chunk", contrastive.CHUNK, "most columns of the matrix at a time")


def compiled(mesh: jax.sharding.Mesh, of_loss: jax.sharding.Mesh | None) -> jax.stages.Compiled:
    """Compile for a mesh, of which the loss is told or not."""
    rows, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    level = jax.ShapeDtypeStruct((_BATCH.value, WIDTH), np.float32, sharding=rows)
    features = ((level,) * LEVELS,) * 2

    def loss(features: tuple) -> jax.Array:
        return contrastive.info_nce(*features, 0.07, _GROUP.value, of_loss, _CHUNK.value).sum()

    gradients = jax.tree.map(lambda _: rows, features)
    function = jax.jit(jax.value_and_grad(loss), out_shardings=(whole, gradients))
    return function.lower(features).compile()


def messages(text: str) -> dict[str, tuple[int, float]]:
    """Kind → (how many, MiB of their results) in a compiled program."""
    found: dict[str, list[float]] = collections.defaultdict(list)
    for line in text.splitlines():
        if match := re.search(rf"= (.*?) ({MESSAGES})(?:-start)?\(", line):
            shapes = re.findall(r"[fsu]32\[([\d,]*)\]", match[1])
            size = sum(4 * np.prod([int(n) for n in shape.split(",") if n], dtype=float) for shape in shapes)
            times = LEVELS if re.search(r'op_name="[^"]*/while/', line) else 1
            found[match[2]] += [size / MIB] * times
    return {kind: (len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())}


def main(argv: Sequence[str]) -> None:
    """Compile both forms and print a line for each."""
    del argv
    devices = topologies.get_topology_desc(platform="tpu", topology_name=_TOPOLOGY.value).devices
    mesh = sharding.make_mesh(devices=devices)
    print(f"{_TOPOLOGY.value}, {_BATCH.value:,} clips, {_BATCH.value // mesh.size} a chip")
    for name, of_loss in (("plain", None), ("contrastive", mesh)):
        program = compiled(mesh, of_loss)
        memory = program.memory_analysis()
        sent = ", ".join(
            f"{count} {kind} {size:.1f}" for kind, (count, size) in messages(program.as_text()).items()
        )
        print(
            f"{name:12}temporaries {memory.temp_size_in_bytes / MIB:.1f}, at most "
            f"{memory.peak_memory_in_bytes / MIB:.1f}; {sent}",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
