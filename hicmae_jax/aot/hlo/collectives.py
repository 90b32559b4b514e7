"""List the messages between chips in a compiled program."""

import dataclasses
from collections.abc import Iterable

from hicmae_jax.aot.hlo.asynchronous import results
from hicmae_jax.aot.hlo.program import Computation, Instruction
from hicmae_jax.aot.hlo.traffic import Executed


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective operation, in which all chips take part.

    Attributes:
        kind: `all-reduce`, `all-gather`, `reduce-scatter`, ….
        origin: where in the source it comes from, as JAX names it.
        times: how often a step executes it.
        bytes: on each chip, each time: those of the inputs or of the results, whichever are more.
        asynchronous: whether other instructions run meanwhile.
    """

    kind: str
    origin: str
    times: int
    bytes: int
    asynchronous: bool

    @property
    def total(self) -> int:
        """Bytes on each chip in a step."""
        return self.bytes * self.times


def collectives(walk: Iterable[Executed]) -> list[Collective]:
    """Every collective operation of a program, by bytes in a step, the largest first.

    Args:
        walk: the executed instructions.
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
    if where.name.startswith("all-reduce-scatter"):  # a fusion: a sum of which each chip keeps a part
        return "reduce-scatter"
    return message.opcode.removesuffix("-start")


def _bytes(message: Instruction, where: Computation) -> int:
    operands = [where[name] for name in message.operands]
    inputs = sum(shape.size for operand in operands for shape in operand.shapes)
    return max(inputs, sum(shape.size for shape in results(message, operands)))
