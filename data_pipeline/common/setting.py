"""Declares a setting as a field of a dataclass: its type, default, limits and meaning in one place.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class LogConfig:
        every: int = setting(50, "steps from one line of metrics to the next", at_least=1)

        def __post_init__(self) -> None:
            check_limits(self)

`hicmae_jax.settings` makes the recipe, the command line and the list of all settings from such fields.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

_KEY = "setting"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The meaning and the limits of a setting; the field itself has the type and the default.

    Attributes:
        meaning: one line that explains the setting.
        name: name of the setting, if it differs from the name of the field.
        choices: the only values that are allowed; empty for any.
        at_least: smallest value that is allowed.
        above: bound that every value must exceed.
        at_most: largest value that is allowed.
        below: bound that no value may reach.
        infinite: whether infinity, written inf, is a value too.
    """

    meaning: str = ""
    name: str | None = None
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    infinite: bool = False

    def limits(self) -> str:
        """The limits in words; empty if there are none."""
        if self.choices:
            return ", ".join(self.choices)
        low = self.at_least if self.above is None else self.above
        high = self.at_most if self.below is None else self.below
        if low is not None and high is not None:
            return f"in {'[('[self.above is not None]}{low}, {high}{'])'[self.below is not None]}"
        bounds = {
            "at least": self.at_least,
            "above": self.above,
            "at most": self.at_most,
            "below": self.below,
        }
        return " and ".join(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)

    def check(self, name: str, value: Any) -> None:
        """Refuse a value outside the limits. None passes; every element of a tuple is checked.

        Raises:
            ValueError: names the setting, its value and the limits.
        """
        if self.choices and value is not None and value not in self.choices:
            raise ValueError(f"{name} = {value!r}: choose one of {', '.join(self.choices)}")
        if not all(map(self._within, value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"{name} {value} is not {self.limits()}")

    def _within(self, value: Any) -> bool:
        if value is None:
            return True
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


def setting(
    default: Any = dataclasses.MISSING,
    meaning: str = "",
    *,
    name: str | None = None,
    choices: Sequence[str] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    infinite: bool = False,
) -> Any:
    """Declare a field of a dataclass that is a setting; see `Setting` for the arguments.

    Args:
        default: default value; without one, the field is required.
        meaning: one line that explains the setting.
        name: name of the setting, if it differs from the name of the field.
        choices: the only values that are allowed; empty for any.
        at_least: smallest value that is allowed.
        above: bound that every value must exceed.
        at_most: largest value that is allowed.
        below: bound that no value may reach.
        infinite: whether infinity, written inf, is a value too.
    """
    described = Setting(
        meaning=meaning,
        name=name,
        choices=tuple(choices),
        at_least=at_least,
        above=above,
        at_most=at_most,
        below=below,
        infinite=infinite,
    )
    return dataclasses.field(default=default, metadata={_KEY: described})


def settings_of(config: Any) -> Mapping[str, tuple[dataclasses.Field[Any], Setting]]:
    """Name of each setting of a dataclass → its field, and its meaning and limits."""
    described = [(field, field.metadata.get(_KEY, Setting())) for field in dataclasses.fields(config)]
    return {about.name or field.name: (field, about) for field, about in described}


def check_limits(config: Any) -> None:
    """Refuse a dataclass with a setting outside its limits.

    Raises:
        ValueError: one line that names the setting, its value and the limits.
    """
    for name, (field, about) in settings_of(config).items():
        about.check(name, getattr(config, field.name))


def check_multiple(name: str, value: int, of_name: str, of: int) -> None:
    """Refuse a value that is not a positive multiple of another.

    Raises:
        ValueError: gives both names and both values.
    """
    if of < 1 or value < 1 or value % of:
        raise ValueError(f"{name} {value} is not a positive multiple of {of_name} {of}")
