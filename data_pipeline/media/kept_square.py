"""What is kept of a frame, if it is a square."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class KeptSquare:
    """A square of a frame that is stored.

    Attributes:
        side: of the square, in pixels.
    """

    side: int = 160

    @property
    def height(self) -> int:
        """Height of what is kept, in pixels."""
        return self.side

    @property
    def width(self) -> int:
        """Width of what is kept, in pixels."""
        return self.side
