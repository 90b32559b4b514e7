"""Find the instructions that run while a message between chips is on its way.

A message that `…-start` starts goes on by itself until `…-done` waits for it: every instruction between them
runs beside it. A message that is split over fusions (`async_collective_fusion`) needs the core for each of
its steps, so it goes on only in the fusions that take its semaphores, and not in other instructions that the
program runs meanwhile.
"""

import dataclasses
from collections.abc import Iterator

from hicmae_jax.aot.hlo.program import Computation, Instruction, Program
from hicmae_jax.aot.hlo.shapes import SEMAPHORES


@dataclasses.dataclass(frozen=True)
class Window:
    """The time between the start of a message and the instruction that waits for it.

    Attributes:
        beside: names of the instructions that run meanwhile, in order.
        end: position in the computation of the instruction that waits.
    """

    beside: tuple[str, ...]
    end: int


def window(start: Instruction, computation: Computation, program: Program) -> Window:
    """The window of a message.

    Args:
        start: the instruction that starts the message.
        computation: that contains it.
        program: that contains the computation.
    """
    names = list(computation.instructions)
    begin = names.index(start.name)
    if start.opcode == "fusion":
        carrying = sorted({names.index(name) for name in _carrying(start, computation, program)})
        waiting = carrying.pop() if carrying else begin
        return Window(tuple(names[place] for place in carrying), waiting)
    end = next((names.index(name) for name in _waiting(start, computation)), begin)
    return Window(tuple(names[begin + 1 : end]), end)


def _waiting(start: Instruction, computation: Computation) -> Iterator[str]:
    """The instruction that waits for `…-start`."""
    for user in computation.users[start.name]:
        if user.opcode.endswith("-done"):
            yield user.name
        elif user.opcode.endswith("-update"):
            yield from _waiting(user, computation)


def _carrying(start: Instruction, computation: Computation, program: Program) -> Iterator[str]:
    """The fusions that take a semaphore of the message; the last of them waits.

    A fusion may carry several messages. A semaphore that it hands on is the same parameter in its results.
    """
    begun = [number for number, shape in enumerate(start.shapes) if shape.space == SEMAPHORES]
    held = [(start, number) for number in begun[:1]]
    while held:
        maker, number = held.pop()
        for element in computation.users[maker.name]:
            if element.opcode != "get-tuple-element" or element.tuple_index != number:
                continue
            for user in computation.users[element.name]:
                if user.opcode != "fusion":
                    continue
                yield user.name
                held += [(user, handed) for handed in _handed_on(user, element.name, program)]


def _handed_on(fusion: Instruction, operand: str, program: Program) -> list[int]:
    """Numbers of a fusion's results that are one of its operands."""
    called = program.called(fusion, "calls")
    root = called[called.root]
    taken = called.parameters[fusion.operands.index(operand)].name
    return [number for number, name in enumerate(root.operands) if name == taken and root.opcode == "tuple"]
