"""A field that is a setting: its limits in words and in force."""

import dataclasses

import pytest

from data_pipeline.common.setting import Setting, check_limits, check_multiple, setting, settings_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    share: float = setting(0.5, "a share", above=0, at_most=1)
    pair: tuple[float, float] = setting((0.1, 0.2), "two numbers", at_least=0, below=1)
    kind: str | None = setting("a", "a choice", choices=("a", "b"), name="sort")
    count: int | None = setting(None, "a number", at_least=2)
    plain: int = 3

    def __post_init__(self):
        check_limits(self)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (Setting(), ""),
        (Setting(at_least=1), "at least 1"),
        (Setting(above=0), "above 0"),
        (Setting(at_most=7), "at most 7"),
        (Setting(below=7), "below 7"),
        (Setting(at_least=0, at_most=7), "in [0, 7]"),
        (Setting(above=0, below=7), "in (0, 7)"),
        (Setting(choices=("a", "b")), "a, b"),
    ],
)
def test_limits_in_words(about, words):
    assert about.limits() == words


@pytest.mark.parametrize(
    "values",
    [{"share": 1.0}, {"pair": (0.0, 0.99)}, {"kind": "b"}, {"kind": None}, {"count": 2}, {"count": None}],
)
def test_values_within_the_limits_pass(values):
    assert dataclasses.asdict(Example(**values)).items() >= values.items()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"share": 0.0}, "share 0.0 is not in (0, 1]"),
        ({"share": 1.5}, "share 1.5 is not in (0, 1]"),
        ({"pair": (0.5, 1.0)}, "pair (0.5, 1.0) is not in [0, 1)"),
        ({"kind": "c"}, "sort = 'c': choose one of a, b"),
        ({"count": 1}, "count 1 is not at least 2"),
    ],
)
def test_a_value_outside_is_one_line_with_the_settings_name(values, line):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Example(**values)
    assert str(refused.value) == line


@pytest.mark.parametrize(("value", "of"), [(7, 2), (0, 2), (4, 0)])
def test_what_is_not_a_positive_multiple_is_refused(value, of):
    with pytest.raises(ValueError, match=f"^size {value} is not a positive multiple of the patch {of}$"):
        check_multiple("size", value, "the patch", of)


def test_a_field_may_be_a_setting_of_another_name():
    assert list(settings_of(Example)) == ["share", "pair", "sort", "count", "plain"]
