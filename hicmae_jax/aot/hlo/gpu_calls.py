"""Count what NVIDIA's libraries do in a program for GPUs, and the kernels that the program starts.

The GPU compiler leaves matrix products to cuBLAS and fused attention to cuDNN, as custom calls. What a call
computes follows from its shapes. The last result of a call is its workspace: memory that a library may use,
which counts among the temporaries. How much of it a library writes and reads is not known, and much of that
stays in the cache, so it is not counted as traffic.

What the compiler cannot know without a GPU, so that no figure says it:

- how long anything takes;
- which of the libraries' algorithms run: XLA would time them. The plans of cuDNN are not built, so their
  workspaces are counted as empty, and a call counts as one kernel although the backward pass has several;
- the tiles of Triton's matrix products, which XLA would also time: such products are switched off, and cuBLAS
  does them;
- what is found in the level-2 cache. Every operand and result counts as traffic.
"""

import math
import re
from collections.abc import Sequence

from hicmae_jax.aot.hlo.program import Computation, Instruction
from hicmae_jax.aot.hlo.shapes import Shape

_GEMM, _ATTENTION = "__cublas$", "__cudnn$fmha"
# Products of attention: scores and their sum of values; backwards, scores again and four gradients.
_FORWARD, _BACKWARD = 2, 5


def library_flops(instruction: Instruction, computation: Computation) -> int:
    """Operations of a library's call, two for each multiply-add; 0 for other instructions."""
    if instruction.target.startswith(_GEMM):
        left = computation[instruction.operands[0]].shapes[0].dims
        contracted = math.prod(left[axis] for axis in _axes(instruction, "lhs_contracting_dimensions"))
        return 2 * instruction.shapes[0].elements * contracted
    if instruction.target.startswith(_ATTENTION):
        # The first result is the attended queries or their gradient, both [clips, heads, queries, channels].
        clips, heads, queries, channels = instruction.shapes[0].dims
        keys = computation[instruction.operands[1]].shapes[0].elements // (clips * heads * channels)
        products = _BACKWARD if "Backward" in instruction.target else _FORWARD
        return 2 * products * clips * heads * queries * keys * channels
    return 0


def without_workspace(instruction: Instruction, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """The arrays that a library's call computes: its results but for its workspace, which is bytes."""
    called = instruction.target.startswith((_GEMM, "__cudnn$"))
    return shapes[:-1] if called and len(shapes) > 1 and shapes[-1].kind in ("s8", "u8") else shapes


def waits(instruction: Instruction) -> bool:
    """Whether the compiler makes a message that it writes as asynchronous wait for its end at once."""
    return '"is_sync":true' in instruction.attributes


def _axes(instruction: Instruction, name: str) -> Sequence[int]:
    """Axes in the description of a product."""
    found = re.search(rf'"{name}":\[([^\]]*)\]', instruction.attributes)
    if not found:
        raise ValueError(f"product {instruction.name} of the compiled program has no {name}")
    return [int(axis) for axis in re.findall(r"\d+", found[1])]
