"""The versions, commit and devices that a run used, which are kept with its results."""

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
    """Versions of this project and its dependencies, its commit, and the devices, as JSON can hold them.

    It starts JAX's backends, so in a run of several processes call it after they are connected.

    Returns:
        `python` and each of `PACKAGES` → version; `source`, a hash of the code itself, since two hosts may
        have different changes to one commit; `commit`, and `dirty` for uncommitted changes to it, None where
        the code does not lie in its repository; `platform`, `device`, `devices` and `processes`.
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
    """Hash of the names and contents of all files that a run is computed with."""
    files = sorted(path for package in CODE for path in (root / package).rglob("*.py"))
    contents = [(str(path.relative_to(root)), path.read_text()) for path in files]
    return hashlib.sha256(repr(contents).encode()).hexdigest()[:16]


def _commit(source: Path = Path(__file__)) -> tuple[str | None, bool | None]:
    """(commit, whether files that it knows are changed), (None, None) outside the repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        # An installed copy may lie in some other project's repository, which does not know it.
        git("ls-files", "--error-unmatch", source.name)
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
