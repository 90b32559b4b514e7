"""Imports flow one way: a package imports only packages of lower levels, and this table says which.

The diagram in docs/architecture.md shows the levels.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("hicmae_jax", "data_pipeline", "launch", "configs", "benchmarks", "tests")


def _of(package: str, *names: str) -> list[str]:
    return [f"{package}.{name}" for name in names]


READING = _of("data_pipeline", "common", "format", "media", "reading", "corpora")
DATA = [*READING, *_of("data_pipeline", "synthetic", "preparation")]
SCIENCE = _of("hicmae_jax", "model", "objective", "preprocessing")
RUNNING = _of("hicmae_jax", "training", "hosts", "logs", "checkpoints", "supervision", "settings")
RESULTS = _of("hicmae_jax", "weights", "evaluation")

# What each package or file may import of this project besides itself; the longest matching name decides.
ALLOWED = {
    "data_pipeline": [],
    "data_pipeline.common": [],
    "data_pipeline.format": ["data_pipeline.common.paths"],
    "data_pipeline.media": _of("data_pipeline", "format", "common.paths", "media.log_mel_constants"),
    "data_pipeline.media.log_mel_constants": [],
    "data_pipeline.reading": _of("data_pipeline", "format", "common"),
    "data_pipeline.corpora": _of("data_pipeline", "format", "media", "common"),
    "data_pipeline.synthetic": _of("data_pipeline", "media", "common"),
    "data_pipeline.preparation": _of("data_pipeline", "common", "format", "media", "corpora"),
    "hicmae_jax.model": ["data_pipeline.common.setting"],
    "hicmae_jax.training": ["data_pipeline.common.setting"],
    "hicmae_jax.hosts": ["data_pipeline.common"],
    "hicmae_jax.logs": ["data_pipeline.common"],
    "hicmae_jax.objective": ["hicmae_jax.model", "data_pipeline.common.setting"],
    "hicmae_jax.preprocessing": [
        "hicmae_jax.model",
        *_of("data_pipeline", "common.setting", "format.host_batch", "media.log_mel_constants"),
    ],
    "hicmae_jax.checkpoints": ["hicmae_jax.hosts", "data_pipeline.common"],
    "hicmae_jax.supervision": [*_of("hicmae_jax", "logs", "training.sharding"), "data_pipeline.common"],
    "hicmae_jax.settings": [*SCIENCE, "hicmae_jax.training", *_of("data_pipeline", "reading", "common")],
    "hicmae_jax.weights": [
        *SCIENCE,
        *_of("hicmae_jax", "settings", "checkpoints", "weights.torch_model"),
        *_of("data_pipeline", "common", "corpora.protocols"),
    ],
    "hicmae_jax.weights.torch_model": [],
    "hicmae_jax.evaluation": [
        *SCIENCE,
        *_of("hicmae_jax", "training", "settings", "checkpoints", "logs", "weights"),
        *READING,
    ],
    "hicmae_jax.runs": [*SCIENCE, *RUNNING, *RESULTS, *READING],
    "hicmae_jax.studies": [
        *_of("hicmae_jax", "settings", "checkpoints", "logs", "model", "evaluation.figures"),
        "hicmae_jax.training.chips",
        "data_pipeline.common",
    ],
    "hicmae_jax.aot": [
        *SCIENCE,
        *_of("hicmae_jax", "runs.build", "settings", "training"),
        *READING,
    ],
    "hicmae_jax.notebook": [*SCIENCE, *RUNNING, *RESULTS, *READING, "hicmae_jax.runs"],
    "hicmae_jax": [*SCIENCE, *RESULTS, "hicmae_jax.notebook"],
    "configs": ["hicmae_jax.settings", "hicmae_jax.training.optimizer", "data_pipeline.corpora.protocols"],
    "launch": [
        *SCIENCE,
        *RUNNING,
        *RESULTS,
        *_of("hicmae_jax", "runs", "studies", "aot"),
        *DATA,
    ],
    "benchmarks": ["hicmae_jax", "data_pipeline", "launch", "configs", "tests"],
    "tests": ["hicmae_jax", "data_pipeline", "launch", "configs", "benchmarks"],
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(source: str) -> set[str]:
    """Dotted names that a module imports, each with the name that it takes from a module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def owner(name: str) -> str:
    """The entry of the table that a dotted name belongs to."""
    return max((entry for entry in ALLOWED if f"{name}.".startswith(f"{entry}.")), key=len)


def violations(module: str, source: str) -> list[str]:
    own = owner(module)
    return [
        f"{module} imports {name}"
        for name in sorted(imports(source))
        if name.split(".")[0] in PACKAGES
        and owner(name) != own
        and not any(f"{name}.".startswith(f"{allowed}.") for allowed in ALLOWED[own])
    ]


def test_imports_flow_one_way():
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > len(PACKAGES)
    found = [
        line for path in paths for line in violations(module_name(path), path.read_text(encoding="utf-8"))
    ]
    assert sorted(set(found)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("data_pipeline.format.records", "import hicmae_jax.model"),
        ("hicmae_jax.objective.losses", "from hicmae_jax.training import sharding"),
        ("hicmae_jax.runs.loop", "from launch.prepare import main"),
        ("hicmae_jax.model.layers", "from hicmae_jax import runs"),
        ("hicmae_jax.model.layers", "import hicmae_jax"),
        ("hicmae_jax.weights.torch_model", "from hicmae_jax.weights import files"),
    ],
)
def test_a_wrong_import_is_found(module, source):
    assert violations(module, source)


def test_every_package_is_in_the_table():
    folders = {path.parent for top in ("hicmae_jax", "data_pipeline") for path in (ROOT / top).glob("*/*.py")}
    assert len(folders) > 15
    assert {module_name(folder) for folder in folders} <= set(ALLOWED)


def test_the_diagram_shows_the_levels_of_the_table():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    diagram = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    levels = {}
    for line in diagram.splitlines()[1:]:
        level, top, *columns = line.split("│")
        levels |= dict.fromkeys(top.split(), int(level))
        for package, names in zip(("hicmae_jax", "data_pipeline"), columns, strict=True):
            for name in names.split():
                full = package if name == "__init__" else f"{package}.{name.replace('/', '.')}"
                levels[full] = int(level)
    assert set(levels) == set(ALLOWED) - {"data_pipeline", "benchmarks", "tests"}
    upward = [
        f"{package} may import {name}"
        for package, level in levels.items()
        for name in ALLOWED[package]
        if levels[owner(name)] >= level
    ]
    assert upward == []


def loaded(modules: list[str], watched: set[str]) -> list[str]:
    """Which packages are loaded once some modules are imported in a new process."""
    script = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
print(*sorted({watched} & {{name.split(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.split()


def modules_of(*packages: str) -> list[str]:
    folders = [ROOT.joinpath(*package.split(".")) for package in packages]
    return [module_name(path) for folder in folders for path in sorted(folder.rglob("*.py"))]


def test_the_science_loads_nothing_of_data_checkpoints_or_runs():
    rest = {"orbax", "grain", "tensorflow_datasets", "array_record", "librosa", "optax", "torch"}
    assert loaded(modules_of(*SCIENCE), rest) == []


def test_of_supervision_only_the_supervisor_loads_jax():
    modules = modules_of("hicmae_jax.supervision")
    modules.remove("hicmae_jax.supervision.supervisor")
    assert loaded(modules, {"jax"}) == []


def test_the_status_of_a_run_loads_no_library_that_takes_seconds():
    slow = {"jax", "orbax", "tensorstore", "tensorflow", "grain", "matplotlib", "sklearn", "librosa"}
    assert loaded(["launch.status"], slow) == []


def test_the_pytorch_model_imports_pytorch_alone():
    """What it imports inside functions is optional."""
    source = (ROOT / "hicmae_jax" / "weights" / "torch_model.py").read_text(encoding="utf-8")
    roots = {name.split(".")[0] for name in imports(source)} - sys.stdlib_module_names
    assert roots == {"torch", "safetensors", "huggingface_hub"}


def test_no_test_imports_from_a_file_of_tests():
    """What several of them use is in tests/support."""
    importing = {
        module_name(path): [
            name for name in imports(path.read_text(encoding="utf-8")) if re.match(r"tests\..*\btest_", name)
        ]
        for path in (ROOT / "tests").rglob("*.py")
    }
    assert {name: found for name, found in importing.items() if found} == {}
