"""Keeps compiled programs on disk, so that a command that is repeated or resumed does not compile again."""

import os

import jax

_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
_DIRECTORY = "~/.cache/hicmae_jax/compiled"


def use() -> None:
    """Choose the directory, unless JAX's own variable names another."""
    if _VARIABLE in os.environ:
        return
    directory = os.path.expanduser(_DIRECTORY)
    # A user of a container may have no home, and keeps nothing that was compiled.
    jax.config.update("jax_compilation_cache_dir", None if directory == _DIRECTORY else directory)
