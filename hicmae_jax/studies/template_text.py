"""Texts of templates: their blanks, `<words to fill in>`, and the part of them that is the command."""

import re
from collections.abc import Mapping, Sequence

from hicmae_jax.settings import schema

_BLANK = re.compile(r"<(\w[^<>\n]*)>")
_UNSAFE = re.compile(r"[\"'`$\\<>\n]")
"""Characters that could end the quotes around a blank, or mean something else within them."""
_COMMAND = re.compile(
    r"^(?P<indent> *)# --- begin of the command\n.*?^ *# --- end of the command\n", re.MULTILINE | re.DOTALL
)


def blanks(text: str) -> tuple[str, ...]:
    """Names of the blanks of a text, each once, in the order of the text."""
    return tuple(dict.fromkeys(_BLANK.findall(text)))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Fill blanks.

    Args:
        text: a template.
        values: text for each blank by its name; other blanks stay.

    Raises:
        ValueError: one line: the template has no such blank, or a value has a quote or another character
            that shells and YAML understand in their own way.
    """
    known = blanks(text)
    for name, value in values.items():
        if name not in known:
            there = f"the nearest is <{schema.nearest(name, known)}>" if known else "it has none"
            raise ValueError(f"the template has no blank <{name}>; {there}")
        if found := _UNSAFE.search(value):
            raise ValueError(f"<{name}>: {value!r} has {found[0]!r}: fill this blank by hand, in an editor")
    return _BLANK.sub(lambda blank: values.get(blank[1], blank[0]), text)


def with_command(text: str, lines: Sequence[str]) -> str:
    """Replace the lines of a template between the marks of its command, and the marks.

    Args:
        text: a template with one command.
        lines: the new lines, without the indentation of the old ones.

    Raises:
        ValueError: the template does not have one command.
    """
    found = _COMMAND.findall(text)
    if len(found) != 1:
        raise ValueError(f"the template marks {len(found)} commands; it must mark one")
    return _COMMAND.sub(lambda old: "".join(f"{old['indent']}{line}\n" for line in lines), text)


def inserted(text: str, after: str, lines: Sequence[str]) -> str:
    """Insert lines after the only line that has a text, with its indentation.

    Args:
        text: a template.
        after: that line, without its indentation.
        lines: the new lines.

    Raises:
        ValueError: the template does not have one such line.
    """
    place = re.compile(rf"^(?P<indent> *){re.escape(after)}\n", re.MULTILINE)
    found = len(place.findall(text))
    if found != 1:
        raise ValueError(f"the template has {found} lines {after!r}; it must have one")
    return place.sub(lambda old: old[0] + "".join(f"{old['indent']}{line}\n" for line in lines), text)
