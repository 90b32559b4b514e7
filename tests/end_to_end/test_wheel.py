"""An installed wheel does the README's steps from an empty directory."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support import shrunk_recipe
from tests.support.paths import ROOT
from tests.support.processes import HANG

# As a user's shell has it, without PYTHONPATH and on one device; less optimisation compiles sooner.
SHELL = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
SHELL["XLA_FLAGS"] = "--xla_backend_optimization_level=0"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The programs of a fresh environment: this project from its wheel, other packages from here."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"  # a build writes beside what it builds
    for name in ("hicmae_jax", "data_pipeline", "launch", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", root, source)
    (wheel,) = root.glob("hicmae_jax-*.whl")

    environment = root / "environment"
    venv.create(environment, symlinks=True)
    call(*pip, "--python", environment / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    (packages,) = environment.glob("lib/python*/site-packages")
    # Python does not read the .pth files of a directory that is added by one: an editable install stays out.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def call(*command, cwd: Path | None = None) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=HANG,
        env=SHELL,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_readmes_steps_in_an_empty_directory(installed, tmp_path):
    def hicmae(*words: object) -> str:
        return call(installed / "hicmae", *words, cwd=tmp_path)

    where = (
        "import hicmae_jax, launch, configs; print(hicmae_jax.__file__, launch.__file__, configs.__file__)"
    )
    files = call(installed / "python", "-c", where, cwd=tmp_path).split()
    assert all(file.startswith(str(installed.parent)) for file in files)
    assert hicmae("--version") == "0.2.0\n"
    assert "\nslurm.sh " in hicmae("template")

    hicmae("make_corpus", "--root=raw", "--clips=12", "--speakers=6", "--test_speakers=2", "--seconds=3,3.5")
    for split in ("dev", "test"):
        hicmae("prepare", "--input=raw", f"--output=data/{split}", f"--split={split}")
    hicmae("inspect", "--data=data/dev", "--verify")

    changes = {"batch": 4, "epochs": None, "warmup_epochs": None, "steps": 3, "warmup_steps": 1}
    hicmae("pretrain", *shrunk_recipe.arguments("data/dev", "runs/b", **changes))
    hicmae("evaluate", "--run=runs/b", "--data=data/test", "--output=scores", "--clips=4", "--batch=4")
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())["step"] == 3
    printed = hicmae("export", "--run=runs/b", "--output=model.safetensors", "--check")
    assert "compared  with PyTorch" in printed
    record = json.loads((tmp_path / "runs" / "b" / "versions.json").read_text())
    assert (record["hicmae_jax"], record["commit"]) == ("0.2.0", None)

    load = "import hicmae_jax as hj; print(hj.load('model.safetensors').config == hj.load('runs/b').config)"
    assert call(installed / "python", "-c", load, cwd=tmp_path) == "True\n"
