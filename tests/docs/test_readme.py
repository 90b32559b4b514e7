"""README and docs/model.md show what happens: Python runs as printed, commands and settings exist."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from hicmae_jax.model.config import FLOWS, FinetuneConfig
from launch import sizes
from launch.__main__ import COMMANDS
from launch.settings import SCHEMAS
from tests.support import set_fixtures
from tests.support.paths import ROOT
from tests.support.processes import HANG

README = (ROOT / "README.md").read_text(encoding="utf-8")
MODEL = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
SETTINGS = {name for schema in SCHEMAS.values() for name in schema.entries}


@pytest.mark.slow
def test_the_python_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    set_fixtures.write_set(tmp_path / "data" / "dev", [120] * 9, size=160)
    blocks = re.findall(r"```python\n(.*?)```", MODEL, re.DOTALL)
    assert len(blocks) == 6
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/model.md, Python block {number + 1}", "exec"), names)
    printed = capsys.readouterr().out
    assert "(4, 16, 160, 160, 3) (4, 41600) [41600 41600 41600 41600]" in printed
    assert "'contrastive': " in printed
    assert "{2: ((4, 64), (4, 64)), 3: ((4, 64), (4, 64)), 4: ((4, 64), (4, 64))}" in printed
    jax.tree.map(np.testing.assert_array_equal, names["again"], dict(names["params"]))
    assert names["trained"].keys() == names["params"].keys()
    assert "208 taken, 176 left, 6 fresh" in printed
    assert names["logits"].shape == (4, 6)


@pytest.mark.slow
def test_the_commands_of_emotions_run_in_order(tmp_path):
    """As printed, but one of the two folds."""
    (block,) = re.findall(r"```sh\n(.*?)```", README.split("\n## Emotions\n")[1].split("\n## ")[0], re.DOTALL)
    assert "--run=runs/emotions\n" in block
    block = block.replace("--run=runs/emotions\n", "--run=runs/emotions --folds=1\n")
    script = f'set -e\nhicmae() {{ {sys.executable} -m launch "$@"; }}\n{block}'
    here = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    subprocess.run(["sh", "-c", script], cwd=tmp_path, env=here, check=True, timeout=4 * HANG)
    assert "missing: fold 2" in (tmp_path / "runs/emotions/table.md").read_text(encoding="utf-8")
    scores = json.loads((tmp_path / "runs/no_video/scores.json").read_text(encoding="utf-8"))
    assert scores["missing"] == "video"
    assert scores["clips"] == 18


@pytest.mark.slow
def test_the_size_table_is_the_command():
    table = "\n".join(sizes.overview(list(sizes.sizes.SIZES)))
    assert table in README


def test_every_switch_and_setting_it_names_exists():
    settings = set(re.findall(r"--config\.([\w.]*\w)", README))
    assert len(settings) > 25
    assert settings <= SETTINGS
    table = README.split("| to ablate")[1].split("\n\n")[0]
    fields = re.findall(r"(\w+)=", re.search(r"FinetuneConfig\((.*?)\)", table)[1])
    assert set(fields) <= {field.name for field in dataclasses.fields(FinetuneConfig)}
    assert all(flow in table for flow in FLOWS[1:])


def test_every_section_of_the_configuration_is_in_its_table():
    table = README.split("| section | decides |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert {name.split(".")[0] for name in SETTINGS} - {"size"} <= named


def test_every_command_and_file_it_names_exists():
    commands = re.findall(r"^hicmae (\w+)|`hicmae (\w+)", README + MODEL, re.MULTILINE)
    assert len(commands) > 5
    assert {name for pair in commands for name in pair if name} <= set(COMMANDS)
    modules = re.findall(r"python -m (launch\.\w+|tests\.\w+)", README + MODEL)
    paths = [f"{module.replace('.', '/')}.py" for module in modules]
    paths += re.findall(r"\]\((docs/[^)#]+)", README) + re.findall(
        r"`((?:hicmae_jax|configs)/[\w/]+\.py)`", README
    )
    assert [path for path in paths if not (ROOT / path).exists()] == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in makefile for target in re.findall(r"make (test[\w-]*|demo)`?", README))
