"""Asynchronous work in a compiled program, which stands in several places and must be counted in one.

Copies, slices and messages begin with `…-start` and end with `…-done`. TPUs also split a message over several
fusions: the first makes semaphores, those that follow take them and compute something else besides, the last
waits. What begins the work counts; what goes on with it does not.
"""

from collections.abc import Sequence

from hicmae_jax.aot.hlo.program import Computation, Instruction
from hicmae_jax.aot.hlo.shapes import SEMAPHORES, Shape


def begins(instruction: Instruction) -> bool:
    """Whether other instructions run before what it does is done."""
    return instruction.opcode.endswith("-start") or _has_semaphore(instruction.shapes)


def goes_on(computation: Computation) -> bool:
    """Whether a fusion's computation goes on with a message that another one began."""
    return any(_has_semaphore(parameter.shapes) for parameter in computation.parameters)


def made(instruction: Instruction, operands: Sequence[Instruction]) -> list[Shape]:
    """Arrays that an instruction makes: what begins has its operands and semaphores in its type as well."""
    if not begins(instruction):
        return instruction.shapes
    shapes = [shape for shape in instruction.shapes if shape.space != SEMAPHORES]
    if instruction.opcode == "copy-start":  # the one that names the result first
        return shapes[:1]
    # `all-reduce-start` has its results alone.
    return shapes[sum(len(operand.shapes) for operand in operands) :] or shapes


def _has_semaphore(shapes: Sequence[Shape]) -> bool:
    return any(shape.space == SEMAPHORES for shape in shapes)
