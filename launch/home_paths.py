"""Paths of the command line that begin with `~`: shells expand `--run ~/x`, but not `--run=~/x`."""

import os

from absl import flags
from ml_collections import ConfigDict

from hicmae_jax.settings import schema


def expand(name: str, path: str) -> str:
    """Expand `~` or `~user` at the start of a path to the home directory of this user or that one.

    Args:
        name: what the path was given for, for the message.
        path: any text; one that does not begin with `~` is returned as it is.

    Raises:
        ValueError: there is no such home directory.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        home = path.split("/", 1)[0]
        raise ValueError(
            f"{name}={path}: this machine knows no home directory {home}: give the whole path, or ./{path} "
            "for a name that begins with ~"
        )
    return expanded


def expand_flags(flag_values: flags.FlagValues) -> None:
    """Expand the paths in all flags of text and in all settings that are lists of directories.

    Raises:
        ValueError: there is no such home directory.
    """
    for name in flag_values:
        value = flag_values[name].value
        if isinstance(value, str):
            flag_values[name].value = expand(f"--{name}", value)
        elif isinstance(value, list):
            flag_values[name].value = [
                expand(f"--{name}", one) if isinstance(one, str) else one for one in value
            ]
        elif isinstance(value, ConfigDict):
            _expand_settings(value)


def _expand_settings(config: ConfigDict) -> None:
    given = schema.flatten(config.to_dict())
    lists = {name: value for name, value in given.items() if isinstance(value, tuple | list)}
    for name, value in lists.items():
        paths = type(value)(expand(f"--config.{name}", one) if isinstance(one, str) else one for one in value)
        if paths != value:
            config.update_from_flattened_dict({name: paths})
