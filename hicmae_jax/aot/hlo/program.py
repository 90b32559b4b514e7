"""Parse the text of a compiled program into computations and instructions."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping

from hicmae_jax.aot.hlo.shapes import Shape, leaves

_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r" ([a-z][a-z0-9\-]*)\(")
_OPERAND = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: unique in its computation.
        opcode: its kind, such as `fusion`.
        type: of the result, as text.
        operands: names of its operands.
        attributes: the text after the operands.
        argument: the text between the parentheses, such as the value of a constant or the number of a
            parameter.
    """

    name: str
    opcode: str
    type: str
    operands: tuple[str, ...]
    attributes: str
    argument: str

    @functools.cached_property
    def shapes(self) -> list[Shape]:
        """Arrays of the result: one, or those of a tuple."""
        return leaves(self.type)

    def attribute(self, name: str) -> str | None:
        """Value of an attribute, up to the next comma or brace; None if there is no such attribute."""
        found = re.search(rf"\b{name}=\{{?([^,}}]*)", self.attributes)
        return found[1] if found else None

    def called(self, name: str) -> str | None:
        """Name of the computation that an attribute gives; None if there is no such attribute."""
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else None

    def numbers(self, name: str) -> tuple[int, ...]:
        """Numbers of an attribute in braces, such as `slice_sizes`; empty if there is no such attribute."""
        found = re.search(rf"\b{name}=\{{([0-9,]*)\}}", self.attributes)
        return tuple(int(part) for part in found[1].split(",") if part) if found else ()

    @property
    def tuple_index(self) -> int:
        """Which element of a tuple a `get-tuple-element` takes."""
        index = self.attribute("index")
        if index is None:
            raise ValueError(f"instruction {self.name} of the compiled program has no index")
        return int(index)

    @property
    def target(self) -> str:
        """Name of the function that a custom call calls."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ""

    @property
    def origin(self) -> str:
        """Where in the source it comes from, as JAX names it; empty if the compiler added the instruction."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""


@dataclasses.dataclass
class Computation:
    """Instructions that run one after the other.

    Attributes:
        name: unique in the program.
        instructions: by name, in order.
        root: name of the instruction whose result is that of the computation.
    """

    name: str
    instructions: dict[str, Instruction] = dataclasses.field(default_factory=dict)
    root: str = ""

    def __iter__(self) -> Iterator[Instruction]:
        """The instructions in order."""
        return iter(self.instructions.values())

    def __getitem__(self, name: str) -> Instruction:
        """The instruction of a name."""
        return self.instructions[name]

    @functools.cached_property
    def users(self) -> Mapping[str, list[Instruction]]:
        """Name of an instruction → the instructions that use its result."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self:
            for operand in dict.fromkeys(instruction.operands):
                if operand in found:
                    found[operand].append(instruction)
        return found

    @functools.cached_property
    def parameters(self) -> list[Instruction]:
        """The parameters, in the order of their numbers."""
        own = [instruction for instruction in self if instruction.opcode == "parameter"]
        return sorted(own, key=lambda instruction: int(instruction.argument))


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        computations: by name.
        entry: the computation that runs first and calls the others.
    """

    computations: Mapping[str, Computation]
    entry: Computation

    def called(self, instruction: Instruction, *attributes: str) -> Computation:
        """The computation that an instruction calls.

        Args:
            instruction: such as a fusion or a loop.
            *attributes: names of the attribute that may give the computation, such as `calls` or `body`.

        Raises:
            ValueError: the instruction has none of the attributes.
        """
        for attribute in attributes:
            name = instruction.called(attribute)
            if name is not None:
                return self.computations[name]
        raise ValueError(
            f"instruction {instruction.name} of the compiled program has no {' or '.join(attributes)}"
        )


def parse(text: str) -> Program:
    """Parse a compiled program.

    Args:
        text: the program's text, from `jax.stages.Compiled.as_text()`.

    Raises:
        ValueError: there is no entry computation, or an instruction cannot be read.
    """
    computations: dict[str, Computation] = {}
    entry: Computation | None = None
    current: Computation | None = None
    for line in text.splitlines():
        if current is None:
            head = _HEAD.match(line)
            if head:
                current = computations.setdefault(head[2], Computation(head[2]))
                entry = current if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif line.strip():
            found = _INSTRUCTION.match(line)
            if not found:
                raise ValueError(f"a line of the compiled program cannot be read: {line[:80]}")
            instruction = _instruction(found[2], line[found.end() :])
            current.instructions[instruction.name] = instruction
            if found[1]:
                current.root = instruction.name
    if entry is None:
        raise ValueError("the compiled program's text has no entry computation")
    return Program(computations, entry)


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    found = _OPCODE.match(text, end)
    if not found:
        raise ValueError(f"instruction {name} of the compiled program cannot be read: {text[:80]}")
    close = _closing(text, found.end() - 1)
    inside = text[found.end() : close]
    operands = () if found[1] in ("constant", "parameter") else tuple(_OPERAND.findall(inside))
    return Instruction(name, found[1], text[:end], operands, text[close + 1 :], inside)


def _closing(text: str, start: int) -> int:
    """Position at which the parenthesis at `start` closes."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.start()
    raise ValueError(f"unbalanced parentheses in the compiled program: {text[:80]}")
