"""Imports flow one way: the science knows nothing of the machine, the data path nothing of the model."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hicmae_jax", "data_pipeline", "launch", "configs", "benchmarks", "tests")

# What each module or package may import of this project; the longest matching name decides.
ALLOWED = {
    "configs": ["configs"],
    "data_pipeline": ["data_pipeline"],
    "hicmae_jax": ["hicmae_jax"],
    # The science files stand alone, for use in a notebook.
    "hicmae_jax.config": ["hicmae_jax.masking"],
    "hicmae_jax.masking": [],
    "hicmae_jax.tokens": [],
    "hicmae_jax.pallas_attention": [],
    "hicmae_jax.attention": ["hicmae_jax.pallas_attention"],
    "hicmae_jax.layers": ["hicmae_jax.attention"],
    "hicmae_jax.targets": [],
    "hicmae_jax.losses": [],
    "hicmae_jax.contrastive": ["hicmae_jax.losses"],
    "hicmae_jax.model": [f"hicmae_jax.{name}" for name in ("config", "layers", "masking", "tokens")],
    "hicmae_jax.finetune_model": [f"hicmae_jax.{name}" for name in ("config", "layers", "model", "tokens")],
    "hicmae_jax.objective": [
        f"hicmae_jax.{name}"
        for name in ("config", "contrastive", "losses", "masking", "model", "targets", "tokens")
    ],
    "hicmae_jax.preprocess": ["hicmae_jax.config", "hicmae_jax.masking", "data_pipeline.log_mel"],
    "hicmae_jax.rules": [],
    "hicmae_jax.schedules": [],
    "hicmae_jax.trust_ratio": ["hicmae_jax.rules"],
    "hicmae_jax.optim": [f"hicmae_jax.{name}" for name in ("rules", "schedules", "trust_ratio")],
    "hicmae_jax.torch_model": [],
    "hicmae_jax.run_config": ["hicmae_jax", "data_pipeline.pipeline"],
    "hicmae_jax.run_sections": [],
    "hicmae_jax.recorded_config": ["hicmae_jax.run_config", "hicmae_jax.typed_settings"],
    "hicmae_jax.evaluation": ["hicmae_jax", "data_pipeline.fixed_clips"],
    "hicmae_jax.typed_settings": [],
    # The machine knows no data, the loop neither data nor model.
    "hicmae_jax.sharding": ["hicmae_jax.rules"],
    "hicmae_jax.train_state": ["hicmae_jax.sharding"],
    "hicmae_jax.accumulation": ["hicmae_jax.sharding"],
    # What watches a run imports nothing that may hang.
    "hicmae_jax.activity": [],
    "hicmae_jax.deadline": [],
    "hicmae_jax.heartbeats": ["hicmae_jax.activity"],
    "hicmae_jax.watchdog": [f"hicmae_jax.{name}" for name in ("activity", "deadline", "heartbeats")],
    "hicmae_jax.train": [
        f"hicmae_jax.{name}"
        for name in ("checkpoints", "chips", "interruption", "metrics", "supervision", "train_state")
    ],
    "hicmae_jax.pretrain": ["hicmae_jax", "data_pipeline"],
    "hicmae_jax.ahead_of_time": ["hicmae_jax", "data_pipeline"],
    "hicmae_jax.hlo": ["hicmae_jax.hlo"],
    "hicmae_jax.chips": [],
    "hicmae_jax.topology": [],
    "launch": ["hicmae_jax", "data_pipeline", "launch"],
    "benchmarks": ["hicmae_jax", "data_pipeline", "launch", "configs", "benchmarks", "tests"],
    "tests": ["hicmae_jax", "data_pipeline", "launch", "configs", "benchmarks", "tests"],
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def project_imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module in PACKAGES:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return {name for name in found if name.split(".")[0] in PACKAGES}


def violations(module: str, source: str) -> list[str]:
    rule = max((name for name in ALLOWED if f"{module}.".startswith(f"{name}.")), key=len)
    return [
        f"{module} imports {name}"
        for name in sorted(project_imports(source))
        if not any(f"{name}.".startswith(f"{allowed}.") for allowed in ALLOWED[rule])
    ]


def test_imports_flow_one_way():
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > len(PACKAGES)
    assert [line for path in paths for line in violations(module_name(path), path.read_text())] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("data_pipeline.records", "import hicmae_jax.model"),
        ("hicmae_jax.losses", "from hicmae_jax import sharding"),
        ("hicmae_jax.train", "from launch.prepare import main"),
    ],
)
def test_a_wrong_import_is_found(module, source):
    assert violations(module, source)
