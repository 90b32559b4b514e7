"""The versions, commit and devices of a run, which are kept with its results."""

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("hicmae_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain")
CODE = ("hicmae_jax", "data_pipeline", "launch")


def versions() -> dict[str, Any]:
    """Versions of this project and its dependencies, its commit, and the devices, in types of JSON.

    This starts JAX's backends, so a run of several processes must connect them before.

    Returns:
        `python` and each of `PACKAGES` → version; `source`, a hash of the code, because two hosts may have
        different changes to the same commit; `commit`, and `dirty`, whether tracked files have uncommitted
        changes, both None if the code is not in its repository; `platform`, `device`, `devices` and
        `processes`.
    """
    commit, dirty = _commit()
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "source": _source(),
        "commit": commit,
        "dirty": dirty,
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def _source(root: Path = Path(__file__).parents[2]) -> str:
    """Hash of the names and contents of all source files that a run may use."""
    files = sorted(path for package in CODE for path in (root / package).rglob("*.py"))
    contents = [(str(path.relative_to(root)), path.read_bytes()) for path in files]
    return hashlib.sha256(repr(contents).encode()).hexdigest()[:16]


def _commit(source: Path = Path(__file__)) -> tuple[str | None, bool | None]:
    """The commit, and whether tracked files have changes; (None, None) outside this project's repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace")
        return done.stdout.strip()

    try:
        # An installed copy may lie in the repository of another project, which does not track it.
        git("ls-files", "--error-unmatch", source.name)
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
