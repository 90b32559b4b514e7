"""Which elements of its operands a fusion reads, and which elements of its results it writes.

A fusion computes its results element by element, in one pass. An operand of which only slices are used is
read only there, and an update in place writes only the update. A fusion may contain fusions: a value goes in
through a parameter and may come out again under another name or shape, as the root or one of its elements;
its users are then the users of the inner fusion.
"""

import dataclasses

from hicmae_jax.aot.hlo.asynchronous import COLLECTIVES, continues
from hicmae_jax.aot.hlo.program import Computation, Instruction, Program

SLICES = frozenset({"dynamic-slice", "slice", "gather"})
_ALIASES = frozenset({"bitcast", "reshape"})


@dataclasses.dataclass(frozen=True)
class _Use:
    """What becomes of a value in a computation.

    Attributes:
        elements: number of elements read; None for all.
        returned: numbers of the computation's results as which the value is handed on.
    """

    elements: int | None = 0
    returned: frozenset[int] = frozenset()

    def __add__(self, other: "_Use") -> "_Use":
        """Both uses."""
        if self.elements is None or other.elements is None:
            return _ALL
        return _Use(self.elements + other.elements, self.returned | other.returned)


_ALL = _Use(None)


class Fusions:
    """The operands and results of the fusions of a program."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._uses: dict[tuple[str, str], _Use] = {}

    def share_read(self, fusion: Instruction, number: int) -> float:
        """Returns the share of an operand that a fusion reads: 1, or less if only slices are used.

        An operand that is handed on as a result, and not used otherwise, is not read.

        Args:
            fusion: that the program executes.
            number: of the operand.
        """
        computation = self._program.called(fusion, "calls")
        parameter = computation.parameters[number]
        whole = sum(shape.elements for shape in parameter.shapes)
        read = self._use(parameter, computation).elements
        return 1.0 if read is None or not whole else min(1.0, read / whole)

    def joins_results(self, fusion: Instruction) -> bool:
        """Returns whether each result of a fusion is made by an instruction of its own, or there is only one.

        Not so where one instruction starts a message: its type lists the message's operands, too.
        """
        called = self._program.called(fusion, "calls")
        return len(fusion.shapes) == 1 or called[called.root].opcode in ("tuple", "fusion")

    def share_written(self, fusion: Instruction, number: int) -> float:
        """Returns the share of a result that a fusion writes: 1, or less if it updates an operand in place.

        Args:
            fusion: that the program executes.
            number: of the result.
        """
        called = self._program.called(fusion, "calls")
        return self._share_made(_Value(called[called.root], number, ((called, None),)))

    # --- Reading --------------------------------------------------------------------------------------------

    def _use(self, value: Instruction, computation: Computation) -> _Use:
        """Returns what becomes of a value. All parts of a tuple count together."""
        key = computation.name, value.name
        if key not in self._uses:
            results = range(len(value.shapes)) if value.name == computation.root else ()
            use = _Use(returned=frozenset(results))
            for user in computation.users[value.name]:
                use += self._use_by(user, value, computation)
            self._uses[key] = use
        return self._uses[key]

    def _use_by(self, user: Instruction, value: Instruction, computation: Computation) -> _Use:
        """Returns what becomes of a value by one of its users, and by the users of that one's results."""
        places = [number for number, name in enumerate(user.operands) if name == value.name]
        if user.opcode in SLICES and places == [0]:
            return _Use(user.shapes[0].elements)
        if user.opcode in _ALIASES or user.opcode == "get-tuple-element":
            return self._use(user, computation)
        if user.opcode == "dynamic-update-slice" and places == [0]:
            return self._use(user, computation)  # the update itself reads nothing of the array
        if user.opcode == "scatter" and len(places) == 1 and places[0] < (len(user.operands) - 1) // 2:
            update = computation[user.operands[(len(user.operands) + 1) // 2 + places[0]]]
            return _Use(update.shapes[0].elements) + self._use_of_result(user, places[0], computation)
        if user.opcode == "tuple":
            uses = (self._use_of_result(user, number, computation) for number in places)
            return sum(uses, start=_Use())
        if user.opcode == "fusion":
            called = self._program.called(user, "calls")
            total = _Use()
            for number in places:
                inner = self._use(called.parameters[number], called)
                total += _Use(inner.elements)
                for result in inner.returned:
                    total += self._use_of_result(user, result, computation)
            return total
        return _Use() if continues_message(user, computation) else _ALL

    def _use_of_result(self, maker: Instruction, number: int, computation: Computation) -> _Use:
        """Returns what becomes of one result of an instruction that may have several."""
        if len(maker.shapes) == 1 and not maker.type.startswith("("):
            return self._use(maker, computation)
        use = _Use(returned=frozenset({number})) if maker.name == computation.root else _Use()
        for user in computation.users[maker.name]:
            if user.opcode != "get-tuple-element":
                return _ALL
            if user.tuple_index == number:
                use += self._use(user, computation)
        return use

    # --- Writing --------------------------------------------------------------------------------------------

    def _share_made(self, value: "_Value") -> float:
        """Returns the share of a value that the fusion itself makes."""
        value = self._origin(value)
        maker, number, computation = value.maker, value.number, value.frames[-1][0]
        if maker.opcode == "parameter" or continues_message(maker, computation):
            return 0.0  # an operand handed on; or written where the message started
        if maker.opcode == "dynamic-update-slice":
            base, update = maker.operands[:2]
        elif maker.opcode == "scatter":
            count = (len(maker.operands) - 1) // 2
            base, update = maker.operands[number], maker.operands[count + 1 + number]
        else:
            return 1.0
        # The update is in place. It changes an operand, or an array that the fusion also makes.
        rest = self._share_made(_Value(computation[base], 0, value.frames))
        changed = computation[update].shapes[0].elements / max(1, maker.shapes[number].elements)
        return min(1.0, rest + changed)

    def _origin(self, value: "_Value") -> "_Value":
        """Follows a value back through other names, and into and out of inner fusions, to what makes it."""
        maker, number, frames = value.maker, value.number, value.frames
        while True:
            computation, fusion = frames[-1]
            if maker.opcode in _ALIASES:
                maker = computation[maker.operands[0]]
            elif maker.opcode == "get-tuple-element":
                maker, number = computation[maker.operands[0]], maker.tuple_index
            elif maker.opcode == "tuple":
                maker, number = computation[maker.operands[number]], 0
            elif maker.opcode == "fusion":
                called = self._program.called(maker, "calls")
                maker, frames = called[called.root], (*frames, (called, maker))
            elif maker.opcode == "parameter" and fusion is not None:
                frames = frames[:-1]
                maker = frames[-1][0][fusion.operands[int(maker.argument)]]
            else:
                return _Value(maker, number, frames)


@dataclasses.dataclass(frozen=True)
class _Value:
    """A result of an instruction.

    Attributes:
        maker: the instruction.
        number: of the result.
        frames: the computations around the instruction, the innermost last, each with the fusion that calls
            it; None for the fusion that the program executes.
    """

    maker: Instruction
    number: int
    frames: tuple[tuple[Computation, Instruction | None], ...]


def continues_message(instruction: Instruction, computation: Computation) -> bool:
    """Whether an instruction of a fusion continues or awaits a message that another fusion has started."""
    message = instruction.opcode in COLLECTIVES or instruction.target == "AsyncCollectiveDone"
    return message and continues(computation)
