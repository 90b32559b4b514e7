"""What a report consists of, whatever it is written in."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Text.

    Attributes:
        text: one or more sentences.
        is_warning: whether a reader must not overlook it.
    """

    text: str
    is_warning: bool = False


@dataclasses.dataclass(frozen=True)
class Listing:
    """Lines of text.

    Attributes:
        lines: an entry each.
    """

    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        heads: heading of every column.
        rows: cells of every row.
        faint: numbers of the rows that count less, such as runs that are not fitted.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    faint: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        svg: a whole SVG file.
        caption: what it shows.
    """

    svg: bytes
    caption: str


Block = Paragraph | Listing | Table | Picture


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        blocks: its contents; pictures that follow each other stand side by side where there is room.
    """

    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: its heading.
        sections: its parts.
    """

    title: str
    sections: Sequence[Section]
