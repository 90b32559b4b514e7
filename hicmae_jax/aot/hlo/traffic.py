"""Bytes that a compiled program moves, by walking what it executes.

The compiler's own count takes a loop's body once and a hand-written kernel as nothing. Here every executed
instruction counts its operands and results, a loop's body as often as it runs, slices of a larger array at
the slice's size, and arrays in on-chip memory apart from those in the chip's main memory.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from hicmae_jax.aot.hlo.arithmetic import product_flops
from hicmae_jax.aot.hlo.asynchronous import begins, goes_on, made
from hicmae_jax.aot.hlo.loops import turns
from hicmae_jax.aot.hlo.program import Computation, Instruction, Program
from hicmae_jax.aot.hlo.shapes import MAIN_MEMORY, Shape

# Names for what exists already; the second half of an asynchronous pair was counted with the first.
FREE = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"}
) | frozenset({"after-all", "add-dependency", "partition-id", "replica-id", "async-update"})
SLICES = frozenset({"dynamic-slice", "slice", "gather"})
SAME = frozenset({"bitcast", "reshape", "get-tuple-element"})
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)

# Custom calls that compute nothing: buffers, neighbours taken for one array, promises about indices.
NOTHING = frozenset({"AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound"}) | frozenset(
    {"PrepareAsyncCallStart", "PrepareAsyncCallDone"}
)


@dataclasses.dataclass(frozen=True)
class Moved:
    """Bytes on either side of the chip's memory.

    Attributes:
        main: bytes in main memory (HBM), of the elements alone.
        chip: bytes in on-chip memory.
        padded: of those in main memory, with the padding of their tiles.
    """

    main: int = 0
    chip: int = 0
    padded: int = 0

    def __add__(self, other: "Moved") -> "Moved":
        """Sum of both."""
        return Moved(self.main + other.main, self.chip + other.chip, self.padded + other.padded)

    def __mul__(self, times: int) -> "Moved":
        """So many of it."""
        return Moved(self.main * times, self.chip * times, self.padded * times)


def moved(shape: Shape, share: float = 1.0) -> Moved:
    """Bytes of one array, or of a share of it."""
    if shape.space == MAIN_MEMORY:
        return Moved(main=round(shape.size * share), padded=round(shape.padded * share))
    return Moved(chip=round(shape.size * share))


@dataclasses.dataclass(frozen=True)
class Executed:
    """An instruction as it runs.

    Attributes:
        instruction: it.
        times: how often it runs.
        moved: bytes each time.
        flops: floating-point operations of matrix products, each time.
        collectives: messages to other chips: the instruction itself, or those inside a fusion, with where
            they stand.
        asynchronous: whether those run beside other instructions.
    """

    instruction: Instruction
    times: int
    moved: Moved
    flops: int
    collectives: tuple[tuple[Instruction, Computation], ...] = ()
    asynchronous: bool = False


class Walk:
    """One pass over what a program executes.

    Attributes:
        unknown_loops: names of loops whose number of turns is not in the program; counted once.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.unknown_loops: list[str] = []

    def __iter__(self) -> Iterator[Executed]:
        """Everything executed, in order."""
        yield from self._computation(self.program.entry, 1, False)

    def _computation(self, computation: Computation, times: int, beside: bool) -> Iterator[Executed]:
        for instruction in computation:
            yield from self._instruction(instruction, computation, times, beside)

    def _instruction(
        self, instruction: Instruction, computation: Computation, times: int, beside: bool
    ) -> Iterator[Executed]:
        """What an instruction executes; `beside` other instructions, if what calls it says so."""
        opcode, named = instruction.opcode, self.program.computations
        if opcode in FREE or opcode.endswith("-done"):
            return
        if opcode == "while":
            known = turns(instruction, computation, self.program)
            if known is None:
                self.unknown_loops.append(instruction.name)
                known = 1
            for part in ("condition", "body"):
                yield from self._computation(named[instruction.called(part)], times * known, beside)
        elif opcode == "conditional":
            branches = re.findall(
                r"(?:branch_computations=\{|true_computation=|false_computation=)([^}]*)", instruction.rest
            )
            names = re.findall(r"%([\w.\-]+)", " ".join(branches))
            walked = [list(self._computation(named[name], times, beside)) for name in names]
            yield from max(walked, key=lambda parts: sum(p.moved.main * p.times for p in parts), default=[])
        elif opcode in ("call", "call-start", "async-start"):
            name = instruction.called("to_apply") or instruction.called("calls")
            yield from self._computation(named[name], times, beside or opcode != "call")
        elif opcode == "custom-call" and instruction.target in NOTHING:
            return
        else:
            yield self._executed(instruction, computation, times, beside)

    def _executed(
        self, instruction: Instruction, computation: Computation, times: int, beside: bool
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
            beside or begins(instruction),
        )

    def _inner(self, instruction: Instruction) -> list[tuple[Instruction, Computation]]:
        """Everything inside a fusion, fusions in it included."""
        if instruction.opcode != "fusion":
            return []
        computation = self.program.computations[instruction.called("calls")]
        found = []
        for part in computation:
            found.append((part, computation))
            found += self._inner(part)
        return found

    def _moved(self, instruction: Instruction, computation: Computation) -> Moved:
        opcode = instruction.opcode.removesuffix("-start")
        operands = [computation[name] for name in instruction.operands]
        results = made(instruction, operands)
        if opcode == "fusion":
            return self._fusion(instruction, operands)
        if opcode in SLICES:
            return moved(results[0]) + _sized(operands[0], results[0]) + _total(operands[1:])
        if opcode == "dynamic-update-slice":
            update = operands[1]
            return _total([update]) + _sized(instruction, update.shapes[0]) + _total(operands[2:])
        if opcode == "scatter":
            # Of what is changed, an update's worth is read and written.
            count = (len(operands) - 1) // 2
            updates = _total(operands[count + 1 :])
            return updates * 3 + _total([operands[count]])
        if opcode == "custom-call":
            # A kernel gets an array once for each of its parts that has blocks of its own.
            operands = [computation[name] for name in dict.fromkeys(instruction.operands)]
        return _total(operands) + _sum(results)

    def _fusion(self, instruction: Instruction, operands: list[Instruction]) -> Moved:
        computation = self.program.computations[instruction.called("calls")]
        total = Moved()
        for parameter, operand in zip(computation.parameters, operands):
            share = self._share_read(parameter, computation)
            for shape in operand.shapes:
                total += moved(shape, share)
        return total + self._written(instruction, operands, computation)

    def _share_read(self, parameter: Instruction, computation: Computation) -> float:
        """Share of a fusion's operand that is read: slices of it, or all."""
        whole = sum(shape.elements for shape in parameter.shapes)
        if not whole:
            return 1.0
        read = self._elements_read(parameter, computation)
        return 1.0 if read is None else min(1.0, read / whole)

    def _elements_read(self, value: Instruction, computation: Computation) -> int | None:
        """Elements read of a value, None for all."""
        total = 0
        for user in computation.users[value.name]:
            if user.opcode in SLICES and user.operands[0] == value.name:
                total += user.shapes[0].elements
            elif user.opcode == "scatter" and user.operands[0] == value.name:
                total += computation[user.operands[-1]].shapes[0].elements
            elif user.opcode in SAME or _in_place(user, value):
                # What is outside an update is not touched, unless the result is read.
                inner = self._elements_read(user, computation)
                if inner is None:
                    return None
                total += inner
            elif user.opcode == "fusion":
                called = self.program.computations[user.called("calls")]
                for number, name in enumerate(user.operands):
                    if name == value.name:
                        inner = self._elements_read(called.parameters[number], called)
                        if inner is None:
                            return None
                        total += inner
            elif user.opcode == "tuple" or _goes_on(user, computation):
                continue  # handed out as it came; read where the message began
            else:
                return None
        return total

    def _written(
        self, instruction: Instruction, operands: list[Instruction], computation: Computation
    ) -> Moved:
        """Bytes that a fusion writes: of an update in place, the update's."""
        root = computation[computation.root]
        results = [computation[name] for name in root.operands] if root.opcode == "tuple" else [root]
        total = Moved()
        shapes = instruction.shapes
        if len(results) != len(shapes):
            return _sum(made(instruction, operands))
        for result, shape in zip(results, shapes):
            share = self._share_written(result, computation)
            total += moved(shape, share)
        return total

    def _share_written(self, result: Instruction, computation: Computation) -> float:
        """Share of a fusion's result that is written."""
        while result.opcode in SAME and result.operands:
            result = computation[result.operands[0]]
        if result.opcode == "parameter" or _goes_on(result, computation):
            return 0.0  # handed through; written where the message began
        if result.opcode in ("dynamic-update-slice", "scatter"):
            # In place of an operand, or of what the fusion makes for it to be changed.
            update = computation[result.operands[-1 if result.opcode == "scatter" else 1]].shapes[0].elements
            rest = self._share_written(computation[result.operands[0]], computation)
            return min(1.0, rest + update / max(1, result.shapes[0].elements))
        if result.opcode == "fusion":
            called = self.program.computations[result.called("calls")]
            root = called[called.root]
            return 1.0 if root.opcode == "tuple" else self._share_written(root, called)
        return 1.0


def _counted_message(instruction: Instruction, computation: Computation) -> bool:
    return instruction.opcode.removesuffix("-start") in COLLECTIVES and not _goes_on(instruction, computation)


def _goes_on(instruction: Instruction, computation: Computation) -> bool:
    """Whether, in a fusion, it is a message that another fusion began, or waits for one."""
    message = instruction.opcode in COLLECTIVES or instruction.target == "AsyncCollectiveDone"
    return message and goes_on(computation)


def _in_place(update: Instruction, whole: Instruction) -> bool:
    """Whether an instruction updates another one without reading it."""
    if update.opcode != "dynamic-update-slice":
        return False
    return update.operands[0] == whole.name and whole.name not in update.operands[1:]


def _total(instructions: Iterable[Instruction]) -> Moved:
    return _sum(shape for instruction in instructions for shape in instruction.shapes)


def _sum(shapes: Iterable[Shape]) -> Moved:
    return sum((moved(shape) for shape in shapes), start=Moved())


def _sized(whole: Instruction, part: Shape) -> Moved:
    """A part of an array, in the memory where that lies."""
    shape = whole.shapes[0]
    return moved(shape, min(1.0, part.elements / max(1, shape.elements)))


def _kernel_flops(instruction: Instruction) -> int:
    """What a hand-written kernel states of itself: the compiler does not look inside."""
    if instruction.opcode != "custom-call":
        return 0
    found = re.search(r'"?cost_estimate"?\s*:\s*\{[^}]*"flops"\s*:\s*"?(\d+)', instruction.rest)
    return int(found[1]) if found else 0
