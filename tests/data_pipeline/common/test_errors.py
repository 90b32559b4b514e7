"""Errors in one line."""

import pytest

from data_pipeline.common.errors import CommandError, first_line, one_line, typed_line


@pytest.mark.parametrize(
    ("error", "line", "typed"),
    [
        (ValueError("two\n  lines"), "two lines", "ValueError: two lines"),
        (RuntimeError(), "RuntimeError", "RuntimeError"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device", None),
    ],
)
def test_an_error_is_one_line(error, line, typed):
    assert one_line(error) == line
    assert typed_line(error) == (typed or f"OSError: {line}")


def test_a_long_message_is_cut():
    assert one_line(ValueError("x" * 400), 300) == "x" * 300
    assert typed_line(ValueError("x" * 400), 300) == "ValueError: " + "x" * 288


def test_of_many_lines_the_first_is_taken():
    assert first_line(ValueError("disk full\nIn call to …")) == "ValueError: disk full"
    assert first_line(ValueError()) == "ValueError"


def test_a_command_ends_with_a_code():
    assert (CommandError("refused").code, CommandError("rejected", 2).code) == (1, 2)
