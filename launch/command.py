"""Runs a command of `launch`: parses its flags, turns errors into one line, and sets the exit code.

A module that is a command has `define_flags()` and `main(argv)` and ends in::

    if __name__ == "__main__":
        command.run("evaluate", define_flags, main)

Messages go to stderr and begin with the name of the command. The exit code is the value that `main` returns,
or 1 after an error or a wrong command line, 130 after Ctrl-C, 143 after SIGTERM. It does not matter whether
anybody reads what the command prints; but if the disk with stdout is full, the exit code is 1.
"""

import re
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from absl import app, flags, logging

from data_pipeline.common.errors import CommandError, one_line
from hicmae_jax.supervision import standard_streams
from launch import home_paths

Main = Callable[[list[str]], int]
Parse = Callable[[list[str]], list[str]]

ERRORS = (ValueError, OSError, RuntimeError, ImportError)
"""Errors that a command raises for its user. Any other error is a bug and is shown with its traceback."""

_UNSET = re.compile(r"(?P<flag>--\w+)=None: Flag (?P=flag) must have a value other than None\.")


class Terminated(KeyboardInterrupt):
    """Raised at SIGTERM, the signal with which a cluster ends a command."""


def parse_flags(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Parse a command line that may contain only flags.

    Args:
        argv: the program's name, then the flags.
        flag_values: where the flags are declared.

    Returns:
        The program's name.

    Raises:
        ValueError: one line that says what is wrong.
    """
    try:
        rest = flag_values(argv)
    except flags.Error as error:
        raise ValueError(describe(error, flag_values)) from None
    if rest[1:]:
        raise ValueError(f"do not know what to do with {rest[1]!r}: options begin with --")
    return rest


def check_words(argv: Sequence[str], encoding: str = sys.getfilesystemencoding()) -> None:
    """Refuse names of files that libraries in C++ would take for others: they expect UTF-8.

    Args:
        argv: the program's name, then the flags.
        encoding: in which the locale writes names of files.

    Raises:
        ValueError: one line that names the word.
    """
    for word in argv[1:]:
        if encoding != "utf-8" and not word.isascii():
            raise ValueError(
                f"{word}: names of files are {encoding} in this locale, which libraries cannot read: set "
                "LC_ALL=C.UTF-8, or give a name in ASCII"
            )
        if not word.isascii() and word != word.encode(errors="replace").decode():
            raise ValueError(f"{word}: this is not UTF-8: rename the file, or give a link to it")


def describe(error: flags.Error, flag_values: flags.FlagValues = flags.FLAGS) -> str:
    """One line that says what is wrong with a command line."""
    message = one_line(error).removeprefix("flag ")
    if unset := _UNSET.fullmatch(message):
        return f"{unset['flag']} is missing: {flag_values[unset['flag'][2:]].help}"
    return message


def run(
    program: str,
    define_flags: Callable[[], None],
    main: Main,
    *,
    parse: Parse = parse_flags,
    resumable: bool = False,
) -> NoReturn:
    """Run a command on the command line of this process, and end the process.

    Args:
        program: name of the command, which its messages begin with.
        define_flags: declares its flags.
        main: called with a list of only the program's name; returns the exit code.
        parse: parses the command line.
        resumable: whether the same command resumes its work after an interruption.
    """
    standard_streams.make_tolerant()
    others = set(flags.FLAGS)
    define_flags()
    # `--help` lists only flags of the main module, so register those that other modules declare for it.
    for name in set(flags.FLAGS) - others:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    logging.set_verbosity(logging.WARNING)

    def parse_or_exit(argv: list[str]) -> list[str]:
        try:
            check_words(argv)
            rest = parse(argv)
            home_paths.expand_flags(flags.FLAGS)
            return rest
        except ValueError as error:
            print(f"{program}: {one_line(error)}", file=sys.stderr)
            sys.exit(1)

    def main_and_end(argv: list[str]) -> int:
        return standard_streams.end(program, call(program, main, argv, resumable))

    app.run(main_and_end, flags_parser=parse_or_exit)
    raise AssertionError("absl's run returns never")


def call(program: str, main: Main, argv: list[str], resumable: bool = False) -> int:
    """Call a command's `main`, and print its error as one line.

    Args:
        program: name of the command, which its messages begin with.
        main: function of the command.
        argv: a list of only the program's name.
        resumable: whether the same command resumes its work after an interruption.

    Returns:
        The exit code.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return main(argv)
    except CommandError as error:
        message, code = one_line(error), error.code
    except ERRORS as error:
        message, code = one_line(error), 1
    except KeyboardInterrupt as error:
        message = "interrupted; run the same command again to go on" if resumable else "interrupted"
        code = 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"{program}: {message}", file=sys.stderr)
    return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
