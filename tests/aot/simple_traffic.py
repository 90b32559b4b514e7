"""Another way to count the bytes that an instruction moves: all operands and results, and what is left out.

A fusion is first written out flat: inner fusions, tuples and other names are gone. Then only a slice, an
update in place, or an array that is handed on can be a reason to leave bytes out.
"""

from typing import NamedTuple

from hicmae_jax.aot.hlo.asynchronous import continues, results

NAMES = {"bitcast", "reshape"}
SLICES = {"slice", "dynamic-slice", "gather"}


class Ref(NamedTuple):
    """A result of a node; -1 is the fusion itself, whose results are its operands."""

    node: int
    number: int


class Node(NamedTuple):
    opcode: str
    sizes: list[int]  # elements of each result
    inputs: list[Ref]
    continues: bool


class Flat:
    """The nodes of a fusion, without inner fusions."""

    def __init__(self, program, fusion, operands):
        self.program = program
        self.nodes = []
        self.operands = []
        for operand in operands:
            first = sum(map(len, self.operands))
            self.operands.append([Ref(-1, first + leaf) for leaf in range(len(operand.shapes))])
        self.given = [shape.elements for operand in operands for shape in operand.shapes]
        self.results = self._inline(program.called(fusion, "calls"), self.operands)
        self.users = {}
        for number, node in enumerate(self.nodes):
            for place, ref in enumerate(node.inputs):
                self.users.setdefault(ref, []).append((number, place))

    def _inline(self, computation, given):
        values = {}
        for each in computation:
            inputs = [values[name] for name in each.operands]
            if each.opcode == "parameter":
                values[each.name] = given[int(each.argument)]
            elif each.opcode in NAMES:
                values[each.name] = inputs[0]
            elif each.opcode == "tuple":
                values[each.name] = [ref for refs in inputs for ref in refs]
            elif each.opcode == "get-tuple-element":
                values[each.name] = [inputs[0][each.tuple_index]]
            elif each.opcode == "fusion":
                values[each.name] = self._inline(self.program.called(each, "calls"), inputs)
            else:
                message = each.opcode.startswith("all-") or each.target == "AsyncCollectiveDone"
                sizes = [shape.elements for shape in each.shapes]
                refs = [ref for each_input in inputs for ref in each_input]
                self.nodes.append(Node(each.opcode, sizes, refs, message and continues(computation)))
                values[each.name] = [Ref(len(self.nodes) - 1, number) for number in range(len(sizes))]
        return values[computation.root]

    def size(self, ref):
        return self.given[ref.number] if ref.node < 0 else self.nodes[ref.node].sizes[ref.number]

    def read(self, ref):
        """Elements of an array that the fusion reads; an update passes its array on to its own users."""
        total = 0
        for number, place in self.users.get(ref, []):
            node = self.nodes[number]
            if node.continues:
                continue
            if node.opcode in SLICES and place == 0:
                total += node.sizes[0]
            elif node.opcode == "dynamic-update-slice" and place == 0:
                total += self.read(Ref(number, 0))
            elif node.opcode == "scatter" and place == 0 and len(node.inputs) == 3:
                total += self.size(node.inputs[2]) + self.read(Ref(number, 0))
            else:
                return self.size(ref)
        return min(total, self.size(ref))

    def written(self, ref):
        """Elements of a result that the fusion writes."""
        if ref.node < 0 or self.nodes[ref.node].continues:
            return 0
        node = self.nodes[ref.node]
        update = {"dynamic-update-slice": 1, "scatter": 2}.get(node.opcode)
        if update is None:
            return self.size(ref)
        return min(self.size(ref), self.size(node.inputs[update]) + self.written(node.inputs[0]))


def all_bytes(instruction, operands):
    """Bytes of all operands and results."""
    arrays = [shape for operand in operands for shape in operand.shapes] + results(instruction, operands)
    return sum(shape.size for shape in arrays)


def left_out(program, fusion, operands):
    """Bytes that a fusion does not move of its operands and results."""
    flat = Flat(program, fusion, operands)
    total = 0.0
    for operand, refs in zip(operands, flat.operands):
        read, whole = sum(map(flat.read, refs)), sum(map(flat.size, refs))
        total += sum(shape.size for shape in operand.shapes) * (1 - read / whole if whole else 0)
    written = results(fusion, operands)
    if len(written) == len(fusion.shapes) == len(flat.results):
        for shape, ref in zip(written, flat.results):
            total += shape.size * (1 - flat.written(ref) / max(1, flat.size(ref)))
    return round(total)
