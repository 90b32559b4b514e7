"""Colours that people with a colour vision deficiency can tell apart, and markers for many classes."""

# Of Okabe and Ito (2008), with a darker yellow. The last three, of Tol (2021), serve sets of 11 emotions.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8A600"),
    *("#999999", "#882255", "#332288"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
"""Their number and that of the colours have no common divisor, so 99 classes differ in one or the other."""


def style(number: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
