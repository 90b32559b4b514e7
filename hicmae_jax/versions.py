"""What a run ran on: versions, commit and devices, to be kept beside its results."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("hicmae_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain")


def versions() -> dict[str, Any]:
    """Versions of this project and what it stands on, its commit, and the devices, fit for JSON.

    Starts JAX's backends, so in a run of several processes call it after they have met.

    Returns:
        `python` and each of `PACKAGES` → version; `commit`, and `dirty` for uncommitted changes to it,
        None where the code does not lie in its repository; `platform`, `device`, `devices` and `processes`.
    """
    commit, dirty = _commit()
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": commit,
        "dirty": dirty,
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


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
