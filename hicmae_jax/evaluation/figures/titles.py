"""The title of a figure, on as many lines as it needs."""

import textwrap

from matplotlib.figure import Figure

POINTS_AN_INCH, CHARACTER = 72, 0.6  # width of a character, as a share of the size of the font


def put(figure: Figure, title: str, size: float = 12) -> None:
    """Write a title above a figure; a long one, such as one with a path, is broken into lines.

    Args:
        figure: with its final width.
        title: one line.
        size: of the font, points.
    """
    characters = int(figure.get_figwidth() * POINTS_AN_INCH / (CHARACTER * size))
    figure.suptitle(textwrap.fill(title, max(characters, 10)), fontsize=size)
