"""Fusions in fusions, made at random, whose traffic is known because of how they are made.

Each operand has a use: all of it, some rows, an update in place, or none. On the way to its use it gets other
names, goes through tuples, and into and out of inner fusions. So do the results on their way to the root.
"""

import dataclasses
import random

COLUMNS = 128
ROW = 4 * COLUMNS  # bytes
LINE = f"f32[1,{COLUMNS}]{{1,0}}"


def array(rows: int) -> str:
    return f"f32[{rows},{COLUMNS}]{{1,0}}"


@dataclasses.dataclass
class Body:
    """The lines of a computation, and all computations made so far.

    Attributes:
        name: of the computation.
        finished: texts of the other computations.
        lines: so far.
        parameters: number of them.
    """

    name: str
    finished: list[str]
    lines: list[str] = dataclasses.field(default_factory=list)
    parameters: int = 0

    def add(self, kind: str, operation: str) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"  %{name} = {kind} {operation}\n")
        return f"%{name}"

    def parameter(self, kind: str) -> str:
        self.parameters += 1
        return self.add(kind, f"parameter({self.parameters - 1})")

    def inner(self) -> "Body":
        return Body(f"{self.name}.{len(self.lines)}", self.finished)

    def finish(self, root: str) -> None:
        lines = [line.replace(f"  {root} =", f"  ROOT {root} =") for line in self.lines]
        self.finished.append(f"%{self.name} (p: f32[]) -> f32[] {{\n{''.join(lines)}}}\n\n")

    def call(self, kind: str, inner: "Body", root: str, *operands: str) -> str:
        inner.finish(root)
        return self.add(kind, f"fusion({', '.join(operands)}), kind=kLoop, calls=%{inner.name}")


def renamed(rng: random.Random, body: Body, value: str, kind: str, depth: int) -> str:
    """The same array under another name, or out of a tuple or of an inner fusion."""
    for _ in range(rng.randrange(3)):
        way = rng.choice(["bitcast", "tuple", "fusion", "fusion of several results"][: 4 if depth else 2])
        if way == "bitcast":
            value = body.add(kind, f"bitcast({value})")
            continue
        other = body.add(LINE, "constant({...})")
        both = [other, value] if rng.random() < 0.5 else [value, other]
        number = both.index(value)
        kinds = f"({', '.join(kind if each == value else LINE for each in both)})"
        if way == "tuple":
            made = body.add(kinds, f"tuple({', '.join(both)})")
        else:
            inner = body.inner()
            given = inner.parameter(kind)
            inside = renamed(rng, inner, given, kind, depth - 1)
            if way == "fusion":
                root = inner.add(kind, f"bitcast({inside})")
                value = body.call(kind, inner, root, value)
                continue
            results = [inside if each == value else inner.add(LINE, "constant({...})") for each in both]
            root = inner.add(kinds, f"tuple({', '.join(results)})")
            made = body.call(kinds, inner, root, value)
        value = body.add(kind, f"get-tuple-element({made}), index={number}")
    return value


def used(rng: random.Random, body: Body, value: str, kind: str, rows: int | None, depth: int) -> str:
    """A row computed from some rows of an array, or from all (None)."""
    value = renamed(rng, body, value, kind, depth)
    if depth and rng.random() < 0.5:
        inner = body.inner()
        row = used(rng, inner, inner.parameter(kind), kind, rows, depth - 1)
        return body.call(LINE, inner, inner.add(LINE, f"negate({row})"), value)
    if rows is None:
        value = body.add(kind, f"negate({value})")
    row = body.add(LINE, "constant({...})")
    for place in range(rows or 1):
        piece = body.add(LINE, f"slice({value}), slice={{[{place}:{place + 1}], [0:{COLUMNS}]}}")
        row = body.add(LINE, f"add({row}, {piece})")
    return row


def make(seed: int) -> tuple[str, int]:
    """A program of one fusion, and the bytes that the fusion reads and writes."""
    rng = random.Random(seed)
    finished: list[str] = []
    entry, body = Body("main", finished), Body("f", finished)
    operands, results, kinds, moved = [], [], [], ROW
    total = body.add(LINE, "constant({...})")
    depth = rng.randrange(4)
    for _ in range(rng.randint(1, 5)):
        height = rng.randint(4, 9)
        kind = array(height)
        operands.append(entry.parameter(kind))
        value = body.parameter(kind)
        use = rng.choice(
            ["all", "rows", "updated", "updated and used", "handed on", "unused", "rows, handed on"]
        )
        if use.startswith("updated"):
            zero = body.add("s32[]", "constant(0)")
            whole = renamed(rng, body, value, kind, depth)
            value = body.add(kind, f"dynamic-update-slice({whole}, {total}, {zero}, {zero})")
            moved += ROW
        if use in ("all", "updated and used"):
            row = used(rng, body, value, kind, None, depth)
            moved += height * ROW
            total = body.add(LINE, f"add({total}, {row})")
        elif use.startswith("rows"):
            rows = rng.randint(1, 3)
            row = used(rng, body, value, kind, rows, depth)
            moved += rows * ROW
            total = body.add(LINE, f"add({total}, {row})")
        if use.startswith("updated") or use.endswith("handed on"):
            results.append(renamed(rng, body, value, kind, depth))
            kinds.append(kind)
    results.append(renamed(rng, body, total, LINE, depth))
    kinds.append(LINE)
    joined = kinds[0] if len(kinds) == 1 else f"({', '.join(kinds)})"
    root = results[0] if len(kinds) == 1 else body.add(joined, f"tuple({', '.join(results)})")
    if rng.random() < 0.3:  # all of it in one more fusion
        outer = Body("g", finished)
        given = [outer.parameter(line.split(" = ")[1].split(" ")[0]) for line in entry.lines]
        root = outer.call(joined, body, root, *given)
        body = outer
    entry.finish(entry.call(joined, body, root, *operands))
    return "".join(finished).replace("\n%main ", "\nENTRY %main "), moved
