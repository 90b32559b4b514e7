"""Parse the array types of a compiled program: their size, and the memory in which they are.

An example is `bf16[64,800,384]{2,1,0:T(8,128)(2,1)S(1)}`: element type; dimensions; their order in memory,
the fastest-varying first; tiles; memory space. Space 0, which the text leaves out, is the chip's main memory
(HBM), 1 is on-chip vector memory (VMEM), 2 holds semaphores, others hold scalars.
"""

import dataclasses
import math
import re

MAIN_MEMORY = 0
SEMAPHORES = 2

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_LEAF = re.compile(r"([a-z][a-z0-9]*)\[([0-9,<= ]*)\](?:\{([^{}]*)\})?")
_TILE = re.compile(r"T((?:\([0-9,*]+\))+)")
_SPACE = re.compile(r"S\((\d+)\)")


def element_bits(kind: str) -> int:
    """Bits of an element; a `pred` is stored as a byte.

    Args:
        kind: element type as in the text, such as `f32`.

    Raises:
        ValueError: the size of the type is not known.
    """
    if kind in _BITS:
        return _BITS[kind]
    digits = re.match(r"[a-z]+(\d+)", kind)
    if not digits:
        raise ValueError(f"element type {kind!r} of the compiled program is not known")
    return int(digits[1])


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array.

    Attributes:
        kind: element type as in the text, such as `f32`.
        dims: dimensions.
        order: indices of the dimensions, the fastest-varying first; empty for the reverse of `dims`.
        tile: sides of the outermost tile, which covers the fastest-varying dimensions; empty for none.
        space: memory space.
    """

    kind: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = MAIN_MEMORY

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def size(self) -> int:
        """Bytes of the elements, without padding."""
        return self.elements * element_bits(self.kind) // 8

    @property
    def padded(self) -> int:
        """Bytes in memory, with the padding of dimensions to whole tiles."""
        if not self.dims or not self.tile:
            return self.size
        order = self.order or tuple(reversed(range(len(self.dims))))
        sides = [self.dims[axis] for axis in reversed(order)]  # the slowest-varying first
        if len(self.tile) > len(sides):
            sides = [1] * (len(self.tile) - len(sides)) + sides
        whole = [-(-side // part) * part for side, part in zip(sides[-len(self.tile) :], self.tile)]
        return math.prod(sides[: -len(self.tile)] + whole) * element_bits(self.kind) // 8


def leaves(text: str) -> list[Shape]:
    """The arrays of a type in order: one, or all those of a tuple.

    Args:
        text: the type, and nothing else.
    """
    return [_shape(*found) for found in _LEAF.findall(text)]


def _shape(kind: str, dims: str, layout: str) -> Shape:
    sides = tuple(int(part.strip().lstrip("<=")) for part in dims.split(",") if part.strip())
    order, _, rest = layout.partition(":")
    tiles, space = _TILE.search(rest), _SPACE.search(rest)
    first = tiles[1][1:].partition(")")[0] if tiles else ""
    return Shape(
        kind,
        sides,
        tuple(int(axis) for axis in order.split(",") if axis),
        tuple(int(side) for side in first.split(",") if side.isdigit()),
        int(space[1]) if space else MAIN_MEMORY,
    )
