"""Errors in one line, for messages and lists; the error that ends a command with an exit code of its own."""


class CommandError(Exception):
    """Ends a command.

    Attributes:
        code: exit code.

    Args:
        message: one line for the user.
        code: exit code.
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
