"""Count the bytes that a compiled program moves, by walking the instructions that it executes.

The compiler's own count takes a loop's body once and a hand-written kernel as nothing. Here every executed
instruction counts its operands and results; a loop's body counts as often as it runs; a slice of an array
counts at the size of the slice. On-chip memory is counted separately from the chip's main memory.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from hicmae_jax.aot.hlo.arithmetic import product_flops
from hicmae_jax.aot.hlo.asynchronous import continues, results, starts
from hicmae_jax.aot.hlo.loops import trip_count
from hicmae_jax.aot.hlo.program import Computation, Instruction, Program
from hicmae_jax.aot.hlo.shapes import MAIN_MEMORY, Shape

# Instructions that move nothing: they give existing data another name, or belong to asynchronous work, which
# is counted where it starts.
FREE = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"}
) | frozenset({"after-all", "add-dependency", "partition-id", "replica-id", "async-update"})
SLICES = frozenset({"dynamic-slice", "slice", "gather"})
ALIASES = frozenset({"bitcast", "reshape", "get-tuple-element"})
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)

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
        opcode, named = instruction.opcode, self.program.computations
        if opcode in FREE or opcode.endswith("-done"):
            return
        if opcode == "while":
            known = trip_count(instruction, computation, self.program)
            if known is None:
                self.unknown_loops.append(instruction.name)
                known = 1
            for part in ("condition", "body"):
                called = self.program.called(instruction, part)
                yield from self._computation(called, times * known, asynchronous)
        elif opcode == "conditional":
            branches = re.findall(
                r"(?:branch_computations=\{|true_computation=|false_computation=)([^}]*)",
                instruction.attributes,
            )
            names = re.findall(r"%([\w.\-]+)", " ".join(branches))
            walked = [list(self._computation(named[name], times, asynchronous)) for name in names]
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
        flops = sum(product_flops(part, where) for part, where in inner)
        flops += product_flops(instruction, computation) + _kernel_flops(instruction)
        messages = [pair for pair in [(instruction, computation), *inner] if _counted_message(*pair)]
        return Executed(
            instruction,
            times,
            self._moved(instruction, computation),
            flops,
            tuple(messages),
            asynchronous or starts(instruction),
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
        return _total(operands) + _sum(written)

    def _fusion(self, instruction: Instruction, operands: list[Instruction]) -> Moved:
        computation = self.program.called(instruction, "calls")
        total = Moved()
        for parameter, operand in zip(computation.parameters, operands):
            share = self._share_read(parameter, computation)
            for shape in operand.shapes:
                total += moved(shape, share)
        return total + self._written(instruction, operands, computation)

    def _share_read(self, parameter: Instruction, computation: Computation) -> float:
        """Share of an operand that a fusion reads: all of it, or less if only slices are used."""
        whole = sum(shape.elements for shape in parameter.shapes)
        if not whole:
            return 1.0
        read = self._elements_read(parameter, computation)
        return 1.0 if read is None else min(1.0, read / whole)

    def _elements_read(self, value: Instruction, computation: Computation) -> int | None:
        """Number of elements of a value that a fusion reads; None for all."""
        total = 0
        for user in computation.users[value.name]:
            if user.opcode in SLICES and user.operands[0] == value.name:
                total += user.shapes[0].elements
            elif user.opcode == "scatter" and user.operands[0] == value.name:
                total += computation[user.operands[-1]].shapes[0].elements
            elif user.opcode in ALIASES or _in_place(user, value):
                # An update in place does not read the rest of the array; a user of its result may.
                inner = self._elements_read(user, computation)
                if inner is None:
                    return None
                total += inner
            elif user.opcode == "fusion":
                called = self.program.called(user, "calls")
                for number, name in enumerate(user.operands):
                    if name == value.name:
                        inner = self._elements_read(called.parameters[number], called)
                        if inner is None:
                            return None
                        total += inner
            elif user.opcode == "tuple" or _continues(user, computation):
                continue  # passed on unread; or read where the message started
            else:
                return None
        return total

    def _written(
        self, instruction: Instruction, operands: list[Instruction], computation: Computation
    ) -> Moved:
        """Bytes that a fusion writes; for an update in place, those of the update."""
        root = computation[computation.root]
        parts = [computation[name] for name in root.operands] if root.opcode == "tuple" else [root]
        total = Moved()
        shapes = instruction.shapes
        if len(parts) != len(shapes):
            return _sum(results(instruction, operands))
        for result, shape in zip(parts, shapes):
            share = self._share_written(result, computation)
            total += moved(shape, share)
        return total

    def _share_written(self, result: Instruction, computation: Computation) -> float:
        """Share of a result that a fusion writes."""
        while result.opcode in ALIASES and result.operands:
            result = computation[result.operands[0]]
        if result.opcode == "parameter" or _continues(result, computation):
            return 0.0  # an operand passed on; or written where the message started
        if result.opcode in ("dynamic-update-slice", "scatter"):
            # The update is in place. It changes an operand, or an array that the fusion also writes.
            update = computation[result.operands[-1 if result.opcode == "scatter" else 1]].shapes[0].elements
            rest = self._share_written(computation[result.operands[0]], computation)
            return min(1.0, rest + update / max(1, result.shapes[0].elements))
        if result.opcode == "fusion":
            called = self.program.called(result, "calls")
            root = called[called.root]
            return 1.0 if root.opcode == "tuple" else self._share_written(root, called)
        return 1.0


def _counted_message(instruction: Instruction, computation: Computation) -> bool:
    return instruction.opcode.removesuffix("-start") in COLLECTIVES and not _continues(
        instruction, computation
    )


def _continues(instruction: Instruction, computation: Computation) -> bool:
    """Whether an instruction of a fusion continues or awaits a message that another fusion has started."""
    message = instruction.opcode in COLLECTIVES or instruction.target == "AsyncCollectiveDone"
    return message and continues(computation)


def _in_place(update: Instruction, whole: Instruction) -> bool:
    """Whether an instruction updates an array in place without reading it."""
    if update.opcode != "dynamic-update-slice":
        return False
    return update.operands[0] == whole.name and whole.name not in update.operands[1:]


def _total(instructions: Iterable[Instruction]) -> Moved:
    return _sum(shape for instruction in instructions for shape in instruction.shapes)


def _sum(shapes: Iterable[Shape]) -> Moved:
    return sum((moved(shape) for shape in shapes), start=Moved())


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
