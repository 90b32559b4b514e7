"""A table of settings: sections of dataclass fields, from which recipes, checks and listings follow.

A kind of run has one `Schema`. Types, defaults, limits and meanings stand in the dataclasses
(`data_pipeline.common.setting`); the schema says which dataclass each section of a recipe fills.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict, config_dict

from data_pipeline.common.errors import typed_line
from data_pipeline.common.setting import Setting, settings_of

Made = TypeVar("Made")
AUTO = "auto"
INFINITE = "inf"
"""Infinity as a record has it, because JSON has no such number."""


@dataclasses.dataclass(frozen=True)
class Section:
    """One section of a recipe.

    Attributes:
        kind: the dataclass that it fills.
        elsewhere: fields of that dataclass that are not set in this section.
        open: settings that may be none in a recipe, although the dataclass needs a value.
        auto: settings that may be `auto` in a recipe, to be chosen by the platform or by the run that goes
            on.
    """

    kind: type
    elsewhere: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    auto: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Entry:
    """One setting of a schema.

    Attributes:
        hint: its type.
        default: of a recipe that does not say otherwise.
        about: its meaning and limits.
        field: name of the dataclass's field.
    """

    hint: Any
    default: Any
    about: Setting
    field: str


class Schema:
    """The settings of one kind of run, by dotted name.

    Attributes:
        entries: every setting, in the order of a recipe.
        sections: names of the sections.

    Args:
        top: section of the settings whose names have no dot.
        sections: the others, by name.
    """

    def __init__(self, top: Section, sections: Mapping[str, Section]) -> None:
        self.sections = tuple(sections)
        self._sections = {"": top, **sections}
        self.entries: Mapping[str, Entry] = types.MappingProxyType(
            {
                f"{name}.{key}".removeprefix("."): entry
                for name, section in self._sections.items()
                for key, entry in _entries(section)
            }
        )

    @property
    def hints(self) -> Mapping[str, Any]:
        """The type of every setting."""
        return {key: entry.hint for key, entry in self.entries.items()}

    def defaults(self) -> ConfigDict:
        """A configuration with the default of every setting."""
        flat = {
            key: _changeable(entry.default, entry.hint)
            for key, entry in self.entries.items()
            if entry.default is not dataclasses.MISSING
        }
        return ConfigDict(nested(flat))

    def read(self, config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
        """Check names and types of a configuration.

        Args:
            config: nested, or by dotted name.

        Returns:
            The value of every setting by dotted name.

        Raises:
            ValueError: one line: a setting that does not exist or is missing, or a value of another type.
        """
        try:
            tree = config.to_dict() if isinstance(config, ConfigDict) else config
        except config_dict.RequiredValueError:
            raise ValueError("the configuration leaves a required_placeholder without a value") from None
        except Exception as error:  # a reference may compute its value with any function
            raise ValueError(f"the configuration cannot be computed: {typed_line(error)}") from None
        flat = flatten(tree)
        infinite = {
            key: math.inf
            for key, entry in self.entries.items()
            if entry.about.infinite and flat.get(key) in (INFINITE, math.inf)
        }
        return check({**flat, **dict.fromkeys(infinite, 0.0)}, self.hints) | infinite

    def make(self, section: str, kind: Callable[..., Made], values: Mapping[str, Any], **others: Any) -> Made:
        """Make the dataclass of a section.

        Args:
            section: its name; empty for the settings without a section.
            kind: the dataclass, or a function that makes it of the same fields.
            values: of all settings. Open ones that are none are left out.
            **others: fields that are set elsewhere.

        Raises:
            ValueError: one line that begins with the dotted name of the setting.
        """
        found = self._sections[section]
        prefix = f"{section}." if section else ""
        fields = {
            entry.field: values[key]
            for key, entry in self.entries.items()
            if key.rpartition(".")[0] == section
            and not (values[key] is None and key.removeprefix(prefix) in found.open)
        }
        try:
            return kind(**fields, **others)
        except ValueError as error:
            raise ValueError(self._with_dotted_name(section, str(error))) from None

    def values_of(self, section: str, config: Any) -> dict[str, Any]:
        """The settings of a section, as its dataclass has them."""
        return {
            key: getattr(config, entry.field)
            for key, entry in self.entries.items()
            if key.rpartition(".")[0] == section
        }

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Name, type, default, limits and meaning of every setting, as text."""
        return [
            (key, _in_words(entry.hint), shown(entry.default), self._limits(key), entry.about.meaning)
            for key, entry in self.entries.items()
        ]

    def _limits(self, key: str) -> str:
        section, _, name = key.rpartition(".")
        automatic = f"{AUTO}, " if name in self._sections[section].auto else ""
        return automatic + self.entries[key].about.limits()

    def _with_dotted_name(self, section: str, message: str) -> str:
        """The message of a dataclass, which begins with a field, with that field's dotted name instead."""
        found = re.match(r"\w*", message)
        field = found[0] if found else ""
        named = [key for key in self.entries if key.rpartition(".")[2] == field]
        own = [key for key in named if key.rpartition(".")[0] == section]
        if not named:
            return f"{section}: {message}" if section else message
        return (own or named)[0] + message[len(field) :]


def _entries(section: Section) -> Iterable[tuple[str, Entry]]:
    hints = typing.get_type_hints(section.kind)
    for name, (field, about) in settings_of(section.kind).items():
        if field.name in section.elsewhere:
            continue
        hint, default = hints[field.name], field.default
        if name in section.open:
            hint, default = hint | None, None
        elif name in section.auto:
            default = AUTO
        yield name, Entry(hint, default, about, field.name)


def _changeable(default: Any, hint: Any) -> Any:
    """A default that a recipe may change to none where the type allows it."""
    if not isinstance(hint, types.UnionType):
        return default
    inner = typing.get_args(hint)[0]
    kind = typing.get_origin(inner) or inner
    return config_dict.FieldReference(default, field_type=kind)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name as nested dictionaries, the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return tree


def as_json(value: Any) -> Any:
    """A value as JSON can hold it, which `Schema.read` takes too."""
    return list(value) if isinstance(value, tuple) else INFINITE if value == math.inf else value


def nearest(key: str, valid: Iterable[str]) -> str:
    """The one of some dotted names that is most like `key`, as a whole or in its last part."""

    def likeness(name: str) -> tuple[float, float]:
        whole, last = (
            difflib.SequenceMatcher(None, *pair).ratio()
            for pair in ((key, name), (key.rpartition(".")[2], name.rpartition(".")[2]))
        )
        return max(whole, last), whole

    return max(valid, key=likeness)


def check(flat: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Check settings against their types.

    Args:
        flat: value by dotted name.
        hints: type by dotted name: int, float, bool, str, tuples of these, and `… | None`.

    Returns:
        The values in the order of `hints`. Whole numbers become floats and lists become tuples where the
        type asks for it.

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


def shown(value: Any) -> str:
    """A value as a listing shows it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") or value is dataclasses.MISSING else str(value)
