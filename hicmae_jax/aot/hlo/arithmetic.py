"""Count the floating-point operations of matrix products in a compiled program.

The TPU compiler turns every product into a convolution. Batch dimensions become window dimensions with a
dilated operand, so that at most window positions the kernel meets padding or a gap. Only pairs of a kernel
position and an element are counted.
"""

import math
import re

from hicmae_jax.aot.hlo.program import Computation, Instruction


def product_flops(instruction: Instruction, computation: Computation) -> int:
    """Operations of a `dot` or `convolution`, two for each multiply-add; 0 for other instructions."""
    if instruction.opcode == "dot":
        left = computation[instruction.operands[0]].shapes[0].dims
        contracted = math.prod(left[axis] for axis in instruction.numbers("lhs_contracting_dims"))
        return 2 * instruction.shapes[0].elements * contracted
    if instruction.opcode == "convolution":
        return _convolution(instruction, computation)
    return 0


def _convolution(instruction: Instruction, computation: Computation) -> int:
    left, right = (computation[name].shapes[0].dims for name in instruction.operands[:2])
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if not labels:
        raise ValueError(f"convolution {instruction.name} of the compiled program has no dim_labels")
    inputs, kernel, outputs = labels.groups()
    out = instruction.shapes[0].dims
    window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    pairs = 1
    for axis in range(len(inputs) - 2):  # the other two are batch and features

        def field(name: str, default: str, axis: int = axis) -> str:
            return fields[name].split("x")[axis] if name in fields else default

        pairs *= _pairs(
            left[inputs.index(str(axis))],
            right[kernel.index(str(axis))],
            out[outputs.index(str(axis))],
            stride=int(field("stride", "1")),
            padding=int(field("pad", "0_0").split("_")[0]),
            base_dilation=int(field("lhs_dilate", "1")),
            window_dilation=int(field("rhs_dilate", "1")),
        )
    # With groups, the kernel's input features and the result's batch are already those of one group.
    features = right[kernel.index("i")] * out[outputs.index("f")]
    return 2 * pairs * features * out[outputs.index("b")]


def _pairs(
    size: int,
    window: int,
    outputs: int,
    stride: int,
    padding: int,
    base_dilation: int,
    window_dilation: int,
) -> int:
    """Pairs of an output and a kernel position that meet an element of the operand, in one dimension.

    Output k and kernel position w meet at the operand's position k · stride + w · window_dilation - padding.
    The elements are at multiples of `base_dilation`, beginning with 0.

    Args:
        size: elements of the operand.
        window: positions of the kernel.
        outputs: elements of the result.
        stride: operand positions from one output to the next.
        padding: operand positions added before the first element; negative to leave elements out.
        base_dilation: operand positions from one element to the next.
        window_dilation: operand positions from one kernel position to the next.
    """
    last = (size - 1) * base_dilation
    common = math.gcd(stride, base_dilation)
    # The outputs that meet an element at one kernel position are `period` apart.
    period = base_dilation // common
    inverse = pow(stride // common, -1, period)
    count = 0
    for position in range(window):
        first = position * window_dilation - padding
        begin = max(0, -(first // stride))
        end = min(outputs, (last - first) // stride + 1)
        if first % common == 0:  # otherwise every output falls between two elements
            hit = -first // common * inverse
            count += len(range(begin + (hit - begin) % period, end, period))
    return count
