"""Count the bytes that a compiled program moves, by walking the instructions that it executes.

The compiler's own count takes a loop's body once and a hand-written kernel as nothing. Here every executed
instruction counts its operands and results; a loop's body counts as often as it runs; a slice of an array
counts at the size of the slice. On-chip memory is counted separately from the chip's main memory.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from hicmae_jax.aot.hlo.arithmetic import product_flops
from hicmae_jax.aot.hlo.asynchronous import COLLECTIVES, results, starts
from hicmae_jax.aot.hlo.fusions import SLICES, Fusions, continues_message
from hicmae_jax.aot.hlo.gpu_calls import library_flops, waits, without_workspace
from hicmae_jax.aot.hlo.loops import trip_count
from hicmae_jax.aot.hlo.program import Computation, Instruction, Program
from hicmae_jax.aot.hlo.shapes import MAIN_MEMORY, Shape

# Instructions that move nothing: they give existing data another name, or belong to asynchronous work, which
# is counted where it starts.
FREE = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"}
) | frozenset({"after-all", "add-dependency", "partition-id", "replica-id", "async-update"})

# Custom calls that move nothing: they allocate, join adjacent arrays, or state properties of indices.
FREE_CALLS = frozenset({"AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound"}) | frozenset(
    {"PrepareAsyncCallStart", "PrepareAsyncCallDone"}
)


@dataclasses.dataclass(frozen=True)
class Moved:
    """Bytes that an instruction reads and writes.

    Attributes:
        main: in main memory (HBM), without padding.
        on_chip: in on-chip memory, without padding.
        padded: in main memory, with the padding to whole tiles.
    """

    main: int = 0
    on_chip: int = 0
    padded: int = 0

    def __add__(self, other: "Moved") -> "Moved":
        """The sum."""
        return Moved(self.main + other.main, self.on_chip + other.on_chip, self.padded + other.padded)

    def __mul__(self, times: int) -> "Moved":
        """The bytes of so many executions."""
        return Moved(self.main * times, self.on_chip * times, self.padded * times)


def moved(shape: Shape, share: float = 1.0) -> Moved:
    """Bytes of an array, read or written once.

    Args:
        shape: shape of the array.
        share: of the array that is read or written.
    """
    if shape.space == MAIN_MEMORY:
        return Moved(main=round(shape.size * share), padded=round(shape.padded * share))
    return Moved(on_chip=round(shape.size * share))


@dataclasses.dataclass(frozen=True)
class Executed:
    """An instruction that the program executes.

    Attributes:
        instruction: as in the program.
        times: how often it is executed.
        moved: bytes, each time.
        flops: floating-point operations of matrix products, each time.
        collectives: messages to other chips, each with the computation that contains it: the instruction
            itself, or instructions of a fusion.
        asynchronous: whether other instructions run meanwhile.
    """

    instruction: Instruction
    times: int
    moved: Moved
    flops: int
    collectives: tuple[tuple[Instruction, Computation], ...] = ()
    asynchronous: bool = False


class Walk:
    """The instructions that a program executes; iterate once.

    Attributes:
        unknown_loops: names of loops whose trip count is not known; their bodies are counted once.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._fusions = Fusions(program)
        self.unknown_loops: list[str] = []

    def __iter__(self) -> Iterator[Executed]:
        """The executed instructions, in order."""
        yield from self._computation(self.program.entry, 1, False)

    def _computation(self, computation: Computation, times: int, asynchronous: bool) -> Iterator[Executed]:
        for instruction in computation:
            yield from self._instruction(instruction, computation, times, asynchronous)

    def _instruction(
        self, instruction: Instruction, computation: Computation, times: int, asynchronous: bool
    ) -> Iterator[Executed]:
        """The instructions that an instruction executes: itself, or those of the computations it calls."""
        opcode = instruction.opcode
        if opcode in FREE or opcode.endswith("-done"):
            return
        if opcode == "while":
            known = trip_count(instruction, computation, self.program)
            if known is None:
                self.unknown_loops.append(instruction.name)
                known = 1
            # No condition is computed where the compiler states how often the loop runs.
            stated = "known_trip_count" in instruction.attributes
            for part in ("body",) if stated else ("condition", "body"):
                called = self.program.called(instruction, part)
                yield from self._computation(called, times * known, asynchronous)
        elif opcode == "conditional":
            called_branches = branches(instruction, self.program)
            walked = [list(self._computation(branch, times, asynchronous)) for branch in called_branches]
            yield from max(walked, key=lambda parts: sum(p.moved.main * p.times for p in parts), default=[])
        elif opcode in ("call", "call-start", "async-start"):
            called = self.program.called(instruction, "to_apply", "calls")
            yield from self._computation(called, times, asynchronous or opcode != "call")
        elif opcode == "custom-call" and instruction.target in FREE_CALLS:
            return
        else:
            yield self._executed(instruction, computation, times, asynchronous)

    def _executed(
        self, instruction: Instruction, computation: Computation, times: int, asynchronous: bool
    ) -> Executed:
        inner = self._inner(instruction)
        parts = [(instruction, computation), *inner]
        flops = sum(product_flops(*part) + library_flops(*part) for part in parts)
        flops += _kernel_flops(instruction)
        messages = [pair for pair in parts if _counted_message(*pair)]
        return Executed(
            instruction,
            times,
            self._moved(instruction, computation),
            flops,
            tuple(messages),
            asynchronous or (starts(instruction) and not waits(instruction)),
        )

    def _inner(self, instruction: Instruction) -> list[tuple[Instruction, Computation]]:
        """The instructions of a fusion and of the fusions in it, each with the computation around it."""
        if instruction.opcode != "fusion":
            return []
        computation = self.program.called(instruction, "calls")
        found = []
        for part in computation:
            found.append((part, computation))
            found += self._inner(part)
        return found

    def _moved(self, instruction: Instruction, computation: Computation) -> Moved:
        opcode = instruction.opcode.removesuffix("-start")
        operands = [computation[name] for name in instruction.operands]
        written = results(instruction, operands)
        if opcode == "fusion":
            return self._fusion(instruction, operands)
        if opcode in SLICES:
            return moved(written[0]) + _sized(operands[0], written[0]) + _total(operands[1:])
        if opcode == "dynamic-update-slice":
            update = operands[1]
            return _total([update]) + _sized(instruction, update.shapes[0]) + _total(operands[2:])
        if opcode == "scatter":
            # A scatter reads the updates, and reads and writes as many bytes of the array that it changes.
            count = (len(operands) - 1) // 2
            updates = _total(operands[count + 1 :])
            return updates * 3 + _total([operands[count]])
        if opcode == "custom-call":
            # A kernel lists an array once for each of its block specifications.
            operands = [computation[name] for name in dict.fromkeys(instruction.operands)]
            return _total(operands) + _sum(without_workspace(instruction, written))
        return _total(operands) + _sum(written)

    def _fusion(self, instruction: Instruction, operands: list[Instruction]) -> Moved:
        total = Moved()
        for number, operand in enumerate(operands):
            share = self._fusions.share_read(instruction, number)
            total += _sum(operand.shapes, share)
        if not self._fusions.joins_results(instruction):
            return total + _sum(results(instruction, operands))
        for number, shape in enumerate(instruction.shapes):
            total += moved(shape, self._fusions.share_written(instruction, number))
        return total


def branches(conditional: Instruction, program: Program) -> list[Computation]:
    """The computations of which a conditional executes one.

    Args:
        conditional: the instruction.
        program: that contains it.
    """
    found = re.findall(
        r"(?:branch_computations=\{|true_computation=|false_computation=)([^}]*)", conditional.attributes
    )
    return [program.computations[name] for name in re.findall(r"%([\w.\-]+)", " ".join(found))]


def _counted_message(instruction: Instruction, computation: Computation) -> bool:
    return instruction.opcode.removesuffix("-start") in COLLECTIVES and not continues_message(
        instruction, computation
    )


def _total(instructions: Iterable[Instruction]) -> Moved:
    return _sum(shape for instruction in instructions for shape in instruction.shapes)


def _sum(shapes: Iterable[Shape], share: float = 1.0) -> Moved:
    return sum((moved(shape, share) for shape in shapes), start=Moved())


def _sized(whole: Instruction, part: Shape) -> Moved:
    """Bytes of a part of an array, in the memory in which the array is."""
    shape = whole.shapes[0]
    return moved(shape, min(1.0, part.elements / max(1, shape.elements)))


def _kernel_flops(instruction: Instruction) -> int:
    """Operations that a hand-written kernel declares; the text does not show what it computes."""
    if instruction.opcode != "custom-call":
        return 0
    found = re.search(r'"?cost_estimate"?\s*:\s*\{[^}]*"flops"\s*:\s*"?(\d+)', instruction.attributes)
    return int(found[1]) if found else 0
