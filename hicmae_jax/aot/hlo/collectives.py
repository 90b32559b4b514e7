"""Messages between chips in a compiled program."""

import dataclasses
from collections.abc import Iterable

from hicmae_jax.aot.hlo.asynchronous import made
from hicmae_jax.aot.hlo.program import Computation, Instruction
from hicmae_jax.aot.hlo.traffic import Executed


@dataclasses.dataclass(frozen=True)
class Collective:
    """A message that all chips take part in, as often as it is sent.

    Attributes:
        kind: `all-reduce`, `all-gather`, `reduce-scatter`, ….
        origin: where in the program it comes from.
        times: how often in a step.
        bytes: of one, the larger of what goes in and what comes out on a chip.
        asynchronous: whether other instructions run meanwhile.
    """

    kind: str
    origin: str
    times: int
    bytes: int
    asynchronous: bool

    @property
    def total(self) -> int:
        """Bytes in a step."""
        return self.bytes * self.times


def collectives(walk: Iterable[Executed]) -> list[Collective]:
    """Every message of a program, the largest first.

    Args:
        walk: what is executed.
    """
    found = [
        Collective(
            _kind(message, where),
            message.origin or executed.instruction.origin,
            executed.times,
            _bytes(message, where),
            executed.asynchronous,
        )
        for executed in walk
        for message, where in executed.collectives
    ]
    return sorted(found, key=lambda message: -message.total)


def _kind(message: Instruction, where: Computation) -> str:
    if where.name.startswith("all-reduce-scatter"):  # a fusion of which each chip keeps its part
        return "reduce-scatter"
    return message.opcode.removesuffix("-start")


def _bytes(message: Instruction, where: Computation) -> int:
    operands = [where[name] for name in message.operands]
    inputs = sum(shape.size for operand in operands for shape in operand.shapes)
    return max(inputs, sum(shape.size for shape in made(message, operands)))
