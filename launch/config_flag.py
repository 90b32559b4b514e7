"""The flag `--config` of commands that take a recipe: `--config=pretrain:B --config.batch=64`.

A command passes `config_flag.parse` to `command.run`. In its `main`, `FLAGS.config` is the recipe's
configuration with the changes from the command line. A mistake in the command line or in the recipe ends the
command before `main` begins, with one line on stderr and exit code 1.

`settings.recipes` loads the recipe, and `ml_collections` declares a flag for each setting that the command
line changes. The flag of `ml_collections` for configuration files is not used: Python has deprecated the way
in which it loads a file, and its messages do not say what is wrong.
"""

import re
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path, tuple_parser

from hicmae_jax.settings import recipes, schema
from launch import command, home_paths

_FILE = re.compile(r"--?config(?:=(?P<value>.*))?", re.DOTALL)
_MISSING = "--config is missing: name a recipe or a file, such as --config=pretrain:B"
_WORDS = re.compile(r"[^'\"()\[\],]+(?:,[^'\"()\[\],]+)+")
"""Directories or other words between commas, without quotes or brackets."""
_CHANGE = re.compile(r"--?(?:no)?config\.(?P<key>[^=]*)(?:=.*)?", re.DOTALL)


class _WholeNumberOrNone(flags.IntegerParser):
    """Parses a whole number, or `none`, which unsets a setting: for example epochs, if steps are given."""

    def parse(self, argument: str | int) -> int | None:  # type: ignore[override]  # none is its purpose
        if argument in ("none", "None"):
            return None
        try:
            return super().parse(argument)
        except (TypeError, ValueError):
            raise ValueError("not a whole number or none") from None


class _Tuple(flags.ArgumentParser):
    """Parses a tuple, a list, a single value, or words between commas; `none` unsets a setting.

    Of several the last counts.

    It is no `TupleParser` of `ml_collections`, which would add up the values of a flag that is given twice.
    """

    def parse(self, argument: Any) -> tuple[Any, ...] | None:
        if argument in ("none", "None"):
            return None
        if argument == "":
            return ()
        words = tuple(word.strip() for word in str(argument).split(","))
        if _WORDS.fullmatch(str(argument)) and not all(map(_is_number, words)):
            return words
        return tuple_parser.TupleParser().parse(argument)

    def flag_type(self) -> str:
        return "tuple"


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def parse(argv: list[str], flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Parse a command line with `--config`; the configuration becomes `flag_values.config`.

    Args:
        argv: the program's name, then the flags.
        flag_values: where the command's other flags are declared.

    Returns:
        The program's name.

    Raises:
        ValueError: one line that says what is wrong, and where.
    """
    try:
        given, argv = _take_file(flag_values.read_flags_from_files(argv, force_gnu=False))
        plain_tuples: list[str] = []
        if given is not None:
            plain_tuples = _declare(_load(given), argv, flag_values)
        elif any(map(_CHANGE.fullmatch, argv)):
            raise ValueError(_MISSING)
    except flags.Error as error:
        raise ValueError(command.describe(error, flag_values)) from None
    rest = command.parse_flags(argv, flag_values)  # answers --help, with or without a recipe
    if given is None:
        raise ValueError(_MISSING)
    for key in plain_tuples:
        if config_path.get_value(key, flag_values.config) is None:
            flag_values.config.update_from_flattened_dict({key: ()})  # none of them
    return rest


def _take_file(argv: list[str]) -> tuple[str | None, list[str]]:
    """The value of `--config`, None if it is not given, and the rest of the command line."""
    found = [(place, match) for place, word in enumerate(argv) if (match := _FILE.fullmatch(word))]
    if not found:
        return None, argv
    if len(found) > 1:
        raise ValueError("--config is given more than once")
    ((place, match),) = found
    given, after = match["value"], place + 1
    if given is None:
        given, after = "".join(argv[after : after + 1]), after + 1
    if not given or given.startswith("-"):
        raise ValueError(_MISSING)
    return home_paths.expand("--config", given), argv[:place] + argv[after:]


def _declare(config: ConfigDict, argv: list[str], flag_values: flags.FlagValues) -> list[str]:
    """Declare a flag for each setting that the command line changes.

    Returns:
        The settings that are tuples, and may be empty but not None.
    """
    known = schema.flatten(config.to_dict(preserve_field_references=True))
    for change in filter(None, map(_CHANGE.fullmatch, argv)):
        key = change["key"]
        inside = [name for name in known if name.startswith(f"{key}.")]
        if inside:
            raise ValueError(f"--config.{key} is a section: change a setting, such as --config.{inside[0]}")
        if key not in known:
            meant = schema.nearest(key, known)
            raise ValueError(f"there is no setting --config.{key}; the nearest is --config.{meant}")
    config_flags.register_flag_parser_for_type(int, _WholeNumberOrNone())
    for kind in (tuple, list):
        config_flags.register_flag_parser_for_type(kind, _Tuple())
    config_flags.DEFINE_config_dict("config", config, flag_values=flag_values, sys_argv=argv)
    return [key for key, value in known.items() if isinstance(value, tuple | list)]


def _load(given: str) -> ConfigDict:
    try:
        return recipes.load(given)
    except ValueError as error:
        raise ValueError(f"--config={error}") from None
