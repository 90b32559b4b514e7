"""Memory and messages of the contrastive loss on a slice of TPUs, by the TPU compiler; no TPU is needed.

    pip install 'hicmae_jax[tpu]'
    JAX_PLATFORMS=cpu python -m benchmarks.contrast_memory [--topology=v5e:16x16] [--batch=32768] \
        [--group=40] [--chunk=2048]

Compiles only the loss and its gradient with respect to the features, for three levels of width 512: once as
XLA partitions the plain definition, and once as `hicmae_jax.objective.contrastive` does. For each it prints
a line: temporaries in a chip's main memory in MiB, the largest memory in use in MiB, and for each kind of
message their number and the MiB of their results on a chip.
"""

import collections
import re
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags

from hicmae_jax.aot import topology
from hicmae_jax.objective import contrastive
from hicmae_jax.training import sharding
from launch import command

LEVELS, WIDTH = 3, 512
MIB = 2**20
MESSAGES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("topology", "v5e:16x16", "Chip and network, such as v5e:16x16.")
    flags.DEFINE_integer("batch", 32_768, "Clips in a batch.")
    flags.DEFINE_integer("group", None, "Clips in a group of negatives; by default the whole batch.")
    flags.DEFINE_integer(
        "chunk", contrastive.CHUNK, "Columns of the similarity matrix to compute at a time, at most."
    )


def compiled(mesh: jax.sharding.Mesh, loss_mesh: jax.sharding.Mesh | None) -> jax.stages.Compiled:
    """Compile the loss and its gradient for a mesh.

    Args:
        mesh: over which the clips are divided.
        loss_mesh: the same, or None to leave the partitioning to XLA.
    """
    rows, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    level = jax.ShapeDtypeStruct((FLAGS.batch, WIDTH), np.float32, sharding=rows)
    features = ((level,) * LEVELS,) * 2

    def loss(features: tuple[Sequence[jax.Array], Sequence[jax.Array]]) -> jax.Array:
        video, audio = features
        return contrastive.info_nce(video, audio, 0.07, FLAGS.group, loss_mesh, FLAGS.chunk).sum()

    gradients = jax.tree.map(lambda _: rows, features)
    function = jax.jit(jax.value_and_grad(loss), out_shardings=(whole, gradients))
    return function.lower(features).compile()


def messages(text: str) -> dict[str, tuple[int, float]]:
    """Kind of message → their number and the MiB of their results, in a compiled program."""
    found: dict[str, list[float]] = collections.defaultdict(list)
    for line in text.splitlines():
        if match := re.search(rf"= (.*?) ({MESSAGES})(?:-start)?\(", line):
            shapes = re.findall(r"[fsu]32\[([\d,]*)\]", match[1])
            size = sum(4 * np.prod([int(n) for n in shape.split(",") if n], dtype=float) for shape in shapes)
            found[match[2]].append(size / MIB)
    return {kind: (len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())}


def main(argv: Sequence[str]) -> int:
    """Compiles both forms and prints a line for each; returns the exit code."""
    mesh = sharding.make_mesh(devices=topology.devices(FLAGS.topology))
    print(f"{FLAGS.topology}, {FLAGS.batch:,} clips, {FLAGS.batch // mesh.size} a chip")
    for name, loss_mesh in (("plain", None), ("contrastive", mesh)):
        program = compiled(mesh, loss_mesh)
        memory, text = program.memory_analysis(), program.as_text()
        assert memory is not None
        assert text is not None
        sent = ", ".join(f"{count} {kind} {size:.1f}" for kind, (count, size) in messages(text).items())
        print(
            f"{name:12}temporaries {memory.temp_size_in_bytes / MIB:.1f}, at most "
            f"{memory.peak_memory_in_bytes / MIB:.1f}; {sent}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    command.run("contrast_memory", define_flags, main)
