"""Floating-point operations of matrix products in a compiled program.

The TPU compiler makes every product a convolution. Batch dimensions become window dimensions whose operand is
spread with holes, so that most places of the window hold nothing: only those that meet an element count.
"""

import math
import re

from hicmae_jax.aot.hlo.program import Computation, Instruction


def product_flops(instruction: Instruction, computation: Computation) -> int:
    """Two operations a multiply-add of a `dot` or `convolution`; 0 for other instructions."""
    if instruction.opcode == "dot":
        left = computation[instruction.operands[0]].shapes[0].dims
        contracted = math.prod(left[axis] for axis in instruction.numbers("lhs_contracting_dims"))
        return 2 * instruction.shapes[0].elements * contracted
    if instruction.opcode == "convolution":
        return _convolution(instruction, computation)
    return 0


def _convolution(instruction: Instruction, computation: Computation) -> int:
    left, right = (computation[name].shapes[0].dims for name in instruction.operands[:2])
    inputs, kernel, outputs = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest).groups()
    out = instruction.shapes[0].dims
    window = re.search(r"window=\{([^}]*)\}", instruction.rest)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    pairs = 1
    for axis in range(len(inputs) - 2):  # the others are batch and features

        def field(name: str, default: str, axis: int = axis) -> str:
            return fields[name].split("x")[axis] if name in fields else default

        pairs *= _meetings(
            left[inputs.index(str(axis))],
            right[kernel.index(str(axis))],
            out[outputs.index(str(axis))],
            stride=int(field("stride", "1")),
            low=int(field("pad", "0_0").split("_")[0]),
            holes=int(field("lhs_dilate", "1")),
            spread=int(field("rhs_dilate", "1")),
        )
    # A kernel's input features are those of one group already, and so is the batch of the result.
    features = right[kernel.index("i")] * out[outputs.index("f")]
    return 2 * pairs * features * out[outputs.index("b")]


def _meetings(size: int, window: int, out: int, stride: int, low: int, holes: int, spread: int) -> int:
    """Pairs of output and window places that meet an element, of one dimension.

    Output place k and window place w meet at position k · stride + w · spread - low of the operand, whose
    elements lie at multiples of `holes` from 0 on.
    """
    last = (size - 1) * holes
    common = math.gcd(stride, holes)
    # Positions come back to the same place between two elements after so many outputs.
    period = holes // common
    inverse = pow(stride // common, -1, period)
    count = 0
    for place in range(window):
        first = place * spread - low
        begin = max(0, -(first // stride))
        end = min(out, (last - first) // stride + 1)
        if first % common == 0:  # or all positions lie between elements
            hit = -first // common * inverse
            count += len(range(begin + (hit - begin) % period, end, period))
    return count
