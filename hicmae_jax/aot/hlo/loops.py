"""Find how often the body of a loop runs, where the compiled program says so."""

import re

from hicmae_jax.aot.hlo.program import Computation, Instruction, Program

_COPIES = frozenset({"copy", "bitcast", "copy-done", "copy-start"})


def trip_count(loop: Instruction, computation: Computation, program: Program) -> int | None:
    """How often the body of a loop runs.

    The compiler states it for some loops. For the others it follows from the counter, if that goes from one
    constant up to another by a constant.

    Args:
        loop: a `while` instruction.
        computation: the computation that contains the loop.
        program: the program that contains the computation.

    Returns:
        None if it cannot be found.
    """
    known = re.search(r"known_trip_count\W+n\W+(\d+)", loop.attributes)
    if known:
        return int(known[1])
    condition = program.called(loop, "condition")
    test, values = _unfused(condition[condition.root], condition, program)
    direction = test.attribute("direction")
    if test.opcode != "compare" or direction not in ("LT", "GT"):
        return None
    counter, bound = values if direction == "LT" else reversed(values)
    if counter.opcode != "get-tuple-element":
        return None
    body = program.called(loop, "body")
    start = _element(counter, loop, computation)
    stop = _constant(bound, loop, computation, body)
    step = _step(counter, loop, computation, body, program)
    if start is None or stop is None or step is None or step < 1:
        return None
    return max(0, -((start - stop) // step))


def _unfused(
    value: Instruction, computation: Computation, program: Program
) -> tuple[Instruction, list[Instruction]]:
    """An instruction and the sources of its operands; for a fusion, those of the fusion's root."""
    if value.opcode != "fusion":
        return value, [_source(name, computation) for name in value.operands]
    inside = program.called(value, "calls")
    root = inside[inside.root]
    operands = [_source(name, inside) for name in root.operands]
    return root, [
        _source(value.operands[int(operand.argument)], computation)
        if operand.opcode == "parameter"
        else operand
        for operand in operands
    ]


def _step(
    counter: Instruction, loop: Instruction, computation: Computation, body: Computation, program: Program
) -> int | None:
    """The constant that one run of the body adds to the counter; None if it adds no constant."""
    after = _after(counter, body)
    if after is None:
        return None
    added, terms = _unfused(after, body, program)
    others = [term for term in terms if not _same_element(term, counter)]
    if added.opcode != "add" or len(others) != 1:
        return None
    return _constant(others[0], loop, computation, body)


def _constant(
    value: Instruction, loop: Instruction, computation: Computation, body: Computation
) -> int | None:
    """The value of a constant, or of an element of the loop's tuple that the body does not change."""
    if value.opcode == "constant":
        return int(value.argument)
    if value.opcode != "get-tuple-element":
        return None
    after = _after(value, body)
    stays = after is not None and _same_element(after, value)
    return _element(value, loop, computation) if stays else None


def _element(element: Instruction, loop: Instruction, computation: Computation) -> int | None:
    """Value of an element of the loop's tuple before the loop; None if it is not a constant."""
    first = computation[loop.operands[0]]
    if first.opcode != "tuple":
        return None
    source = _source(first.operands[element.tuple_index], computation)
    return int(source.argument) if source.opcode == "constant" else None


def _after(element: Instruction, body: Computation) -> Instruction | None:
    """The instruction that gives an element of the loop's tuple its value after one run of the body."""
    root = body[body.root]
    return _source(root.operands[element.tuple_index], body) if root.opcode == "tuple" else None


def _same_element(value: Instruction, element: Instruction) -> bool:
    return value.opcode == "get-tuple-element" and value.attribute("index") == element.attribute("index")


def _source(name: str, computation: Computation) -> Instruction:
    """The instruction that computes a value, which may have been copied since."""
    value = computation[name]
    while value.opcode in _COPIES:
        value = computation[value.operands[0]]
    return value
