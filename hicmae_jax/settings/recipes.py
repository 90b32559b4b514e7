"""Recipes: configuration files, found by name among those of this project or by path.

A recipe is a Python file with a function `get_config` that returns a `ConfigDict`. It is named in one of two
ways:

- `pretrain:B` is the recipe `pretrain` of this project, from any directory (`configs/pretrain.py`);
- `my/recipe.py:B` and `recipe.py` are files of the user's own.

What follows the colon is the argument of `get_config`.
"""

import contextlib
import importlib.machinery
import importlib.util
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.common.errors import one_line, typed_line
from hicmae_jax.settings import schema

DIRECTORY = Path(__file__).parents[2] / "configs"
"""This project's recipes, in the repository or beside the installed package."""
_being_loaded: set[str] = set()


def names() -> list[str]:
    """Names of this project's recipes, in alphabetical order."""
    return sorted(path.stem for path in DIRECTORY.glob("*.py") if path.stem != "__init__")


def find(recipe: str) -> Path:
    """Find the file of a recipe.

    Args:
        recipe: the name of one of this project's recipes, or the path of a file. A word of only letters,
            digits and underscores is a name; anything else is a path.

    Raises:
        ValueError: there is no such recipe or file.
    """
    if recipe.isidentifier():
        if recipe in names():
            return DIRECTORY / f"{recipe}.py"
        raise ValueError(
            f"there is no recipe {recipe}; the nearest is {schema.nearest(recipe, names())}; name a file of "
            f"your own by its path, such as ./{recipe}.py"
        )
    if not Path(recipe).is_file():
        raise ValueError(f"there is no file {recipe}; the recipes are {', '.join(names())}")
    return Path(recipe)


def load(recipe: str) -> ConfigDict:
    """Load a recipe.

    Args:
        recipe: its name or path, and after a colon the argument of its `get_config` if that takes one.

    Returns:
        What `get_config` returns; not checked, see `settings.pretrain.from_config_dict`.

    Raises:
        ValueError: one line that begins with `recipe`: there is no such recipe, it cannot be run, or it
            makes no configuration.
    """
    name, *argument = recipe.split(":", 1)
    try:
        path = str(find(name))
    except ValueError as error:
        raise ValueError(f"{recipe}: {error}") from None
    try:
        with _loading(path):
            config = _run(path, argument)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise ValueError(f"{recipe}: {error.filename or path}{line}: {error.msg}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a recipe may raise anything
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        where = f"line {lines[-1].lineno}: " if lines else ""
        what = one_line(error) if isinstance(error, ValueError) else typed_line(error)
        if isinstance(error, SystemExit):
            what = f"the recipe ends the program by exit({error.code!r})"
        raise ValueError(f"{recipe}: {where}{what}") from None
    if not isinstance(config, ConfigDict):
        raise ValueError(f"{recipe}: get_config made a {type(config).__name__}, not a ConfigDict")
    try:
        schema.flatten(config.to_dict(preserve_field_references=True))
    except RecursionError:
        raise ValueError(f"{recipe}: the configuration that get_config made holds itself") from None
    return config


def _run(path: str, argument: list[str]) -> Any:
    """What `get_config` of a file returns."""
    loader = importlib.machinery.SourceFileLoader("configuration", path)
    spec = importlib.machinery.ModuleSpec(loader.name, loader, origin=path)
    spec.has_location = True  # for the module's __file__
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module.get_config(*argument)


@contextlib.contextmanager
def _loading(path: str) -> Iterator[None]:
    """Refuse a recipe that loads itself, which would never end."""
    real = os.path.realpath(path)
    if real in _being_loaded:
        raise ValueError("the recipe loads itself")
    _being_loaded.add(real)
    try:
        yield
    finally:
        _being_loaded.remove(real)
