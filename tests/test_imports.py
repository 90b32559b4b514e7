"""Imports flow one way: a room imports only rooms of lower floors, and this table says which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("hicmae_jax", "data_pipeline", "launch", "configs", "benchmarks", "tests")

PREPARED = [f"data_pipeline.{room}" for room in ("common", "format", "media", "reading")]
SCIENCE = [f"hicmae_jax.{room}" for room in ("model", "objective", "preprocessing")]

# What each room may import of this project besides itself; the longest matching name decides.
ALLOWED = {
    "data_pipeline": [],
    "data_pipeline.common": [],
    "data_pipeline.format": [],
    "data_pipeline.media": ["data_pipeline.format"],
    "data_pipeline.reading": ["data_pipeline.format", "data_pipeline.common"],
    "data_pipeline.corpora": ["data_pipeline.media", "data_pipeline.common"],
    "data_pipeline.synthetic": ["data_pipeline.media", "data_pipeline.common"],
    "data_pipeline.preparation": [
        f"data_pipeline.{room}" for room in ("common", "format", "media", "corpora")
    ],
    "hicmae_jax": ["hicmae_jax"],
    "hicmae_jax.model": [],
    "hicmae_jax.training": [],
    "hicmae_jax.hosts": [],
    "hicmae_jax.logs": [],
    "hicmae_jax.objective": ["hicmae_jax.model"],
    "hicmae_jax.preprocessing": [
        *("hicmae_jax.model", "data_pipeline.format.host_batch"),
        "data_pipeline.media.log_mel_constants",
    ],
    "hicmae_jax.checkpoints": ["hicmae_jax.hosts"],
    "hicmae_jax.supervision": ["hicmae_jax.logs", "hicmae_jax.training.sharding"],
    "hicmae_jax.settings": [*SCIENCE, "hicmae_jax.training", "data_pipeline.reading"],
    "hicmae_jax.weights": [*SCIENCE, "hicmae_jax.settings", "hicmae_jax.checkpoints"],
    "hicmae_jax.weights.torch_model": [],
    "hicmae_jax.evaluation": [
        *SCIENCE,
        *(f"hicmae_jax.{room}" for room in ("training", "settings", "checkpoints", "logs", "weights")),
        *PREPARED,
    ],
    "hicmae_jax.runs": ["hicmae_jax", *PREPARED],
    "hicmae_jax.studies": [
        *(f"hicmae_jax.{room}" for room in ("settings", "checkpoints", "logs", "model")),
        "hicmae_jax.evaluation.figures",
    ],
    "hicmae_jax.aot": [
        *SCIENCE,
        *("hicmae_jax.runs.build", "hicmae_jax.settings", "hicmae_jax.training"),
        *PREPARED,
    ],
    "configs": [],
    "launch": ["hicmae_jax", "data_pipeline"],
    "benchmarks": ["hicmae_jax", "data_pipeline", "launch", "configs", "tests"],
    "tests": ["hicmae_jax", "data_pipeline", "launch", "configs", "benchmarks"],
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def project_imports(source: str) -> set[str]:
    """Dotted names that a module imports of this project, with the names of what it takes from each."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def violations(module: str, source: str) -> list[str]:
    room = max((name for name in ALLOWED if f"{module}.".startswith(f"{name}.")), key=len)
    return [
        f"{module} imports {name}"
        for name in sorted(project_imports(source))
        if not any(f"{name}.".startswith(f"{allowed}.") for allowed in (room, *ALLOWED[room]))
    ]


def test_imports_flow_one_way():
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > len(PACKAGES)
    found = [line for path in paths for line in violations(module_name(path), path.read_text())]
    assert sorted(set(found)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("data_pipeline.format.records", "import hicmae_jax.model"),
        ("hicmae_jax.objective.losses", "from hicmae_jax.training import sharding"),
        ("hicmae_jax.runs.loop", "from launch.prepare import main"),
        ("hicmae_jax.model.layers", "from hicmae_jax import runs"),
    ],
)
def test_a_wrong_import_is_found(module, source):
    assert violations(module, source)


def test_the_science_loads_no_library_for_data_files_or_checkpoints():
    script = """
import importlib, pkgutil, sys
for room in ("model", "objective", "preprocessing"):
    package = importlib.import_module(f"hicmae_jax.{room}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"hicmae_jax.{room}.{module.name}")
rest = {"array_record", "grain", "librosa", "optax", "orbax", "tensorflow_datasets", "torch"}
print(sorted(rest & {name.split(".")[0] for name in sys.modules}))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"
