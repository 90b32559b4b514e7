"""Recognise asynchronous work in a compiled program: several instructions do it, and one of them must count.

A copy, slice or message starts with `…-start` and ends with `…-done`. The TPU compiler also splits a message
over several fusions: the first creates semaphores; others take them and compute something else meanwhile; the
last waits. The instruction that starts the work counts; those that continue it do not.
"""

from collections.abc import Sequence

from hicmae_jax.aot.hlo.program import Computation, Instruction
from hicmae_jax.aot.hlo.shapes import SEMAPHORES, Shape

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)


def starts(instruction: Instruction) -> bool:
    """Whether the instruction starts work that other instructions need not wait for."""
    return instruction.opcode.endswith("-start") or _has_semaphore(instruction.shapes)


def continues(computation: Computation) -> bool:
    """Whether the computation of a fusion continues a message that another fusion has started."""
    return any(_has_semaphore(parameter.shapes) for parameter in computation.parameters)


def results(instruction: Instruction, operands: Sequence[Instruction]) -> list[Shape]:
    """Arrays that an instruction computes.

    The type of an instruction that starts work lists its operands and semaphores too; they are left out.

    Args:
        instruction: any.
        operands: of the instruction.
    """
    if not starts(instruction):
        return instruction.shapes
    shapes = [shape for shape in instruction.shapes if shape.space != SEMAPHORES]
    if instruction.opcode == "copy-start":  # the only one whose type begins with the result
        return shapes[:1]
    # The type of `all-reduce-start` has only the results.
    return shapes[sum(len(operand.shapes) for operand in operands) :] or shapes


def _has_semaphore(shapes: Sequence[Shape]) -> bool:
    return any(shape.space == SEMAPHORES for shape in shapes)
