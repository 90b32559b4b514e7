"""Errors as single lines, for messages and lists, and the error that chooses a command's exit code."""


class CommandError(Exception):
    """Ends a command with a message and an exit code.

    Attributes:
        code: exit code of the command.

    Args:
        message: one line for the user.
        code: exit code of the command.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def one_line(error: BaseException, limit: int | None = None) -> str:
    """An error's message without line breaks; the name of its type if it has no message.

    Args:
        error: any error.
        limit: most characters to keep; None for all.
    """
    return " ".join(str(error).split())[:limit] or type(error).__name__


def typed_line(error: BaseException, limit: int | None = None) -> str:
    """The name of an error's type and its message, without line breaks.

    Args:
        error: any error.
        limit: most characters to keep; None for all.
    """
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:limit] if message else type(error).__name__


def first_line(error: BaseException) -> str:
    """The name of an error's type and the first line of its message, for libraries that write many lines."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
