"""Names and types of settings: nested mappings held against the type hints that they must satisfy."""

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def nearest(key: str, valid: Iterable[str]) -> str:
    """Of some dotted names the one that was probably meant: the most alike, in its last part or the whole."""

    def likeness(name: str) -> tuple[float, float]:
        whole, last = (
            difflib.SequenceMatcher(None, *pair).ratio()
            for pair in ((key, name), (key.rpartition(".")[2], name.rpartition(".")[2]))
        )
        return max(whole, last), whole

    return max(valid, key=likeness)


def check(flat: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Hold settings against their types.

    Args:
        flat: value by dotted name.
        hints: type by dotted name: int, float, bool, str, tuples of these, and `… | None`.

    Returns:
        The values in the order of `hints`, whole numbers made floats and lists made tuples where those are
        wanted.

    Raises:
        ValueError: a setting that does not exist or is missing, or a value of another type.
    """
    for key, value in flat.items():
        if key not in hints:
            if any(name.startswith(f"{key}.") for name in hints):
                raise ValueError(f"{key} = {value!r} must be a section of settings")
            raise ValueError(f"there is no setting {key}; the nearest is {nearest(key, hints)}")
    for key in hints:
        if key not in flat:
            raise ValueError(f"{key} is missing")
    return {key: _typed(key, flat[key], hint) for key, hint in hints.items()}


def _typed(key: str, value: Any, hint: Any) -> Any:
    try:
        return _convert(value, hint)
    except TypeError:
        raise ValueError(f"{key} = {value!r} is not {_in_words(hint)}") from None


def _convert(value: Any, hint: Any) -> Any:
    inner = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return None if value is None else _convert(value, inner[0])
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple | list):
            raise TypeError
        each = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(each) != len(value):
            raise TypeError
        return tuple(map(_convert, value, each))
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    # Not isinstance: True would pass for a whole number.
    if hint is float or type(value) is not hint:
        raise TypeError
    return value


def _in_words(hint: Any) -> str:
    inner = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return f"{_in_words(inner[0])} or None"
    if typing.get_origin(hint) is tuple:
        length = "" if inner[-1] is Ellipsis else f" {len(inner)}"
        kind = {int: "whole numbers", float: "numbers", str: "texts"}[inner[0]]
        return f"a tuple of{length} {kind}"
    return {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}[hint]
