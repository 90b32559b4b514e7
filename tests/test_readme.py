"""What the README shows is what happens: its Python runs as printed, its table is the command's."""

import dataclasses
import re
from pathlib import Path

import pytest

from hicmae_jax.config import FLOWS, FinetuneConfig, LossConfig, MaskConfig, ModelConfig
from hicmae_jax.optim import OptimizerConfig
from launch import sizes
from tests import small_sets

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.slow
def test_the_python_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    small_sets.write_set(tmp_path / "data" / "dev", [120] * 5, size=160)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 5
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README.md, Python block {number + 1}", "exec"), names)
    printed = capsys.readouterr().out
    assert "(4, 16, 160, 160, 3) (4, 41600) [41600 41600 41600 41600]" in printed
    assert "'contrastive': " in printed
    assert names["again"].keys() == names["params"].keys()
    assert "208 taken, 176 left, 6 fresh" in printed
    assert names["logits"].shape == (4, 6)


@pytest.mark.slow
def test_the_size_table_is_the_command():
    table = "\n".join(sizes.overview(list(sizes.sizes.SIZES)))
    assert table in README


def test_every_switch_it_names_exists():
    table = README.split("| to ablate")[1].split("\n\n")[0]
    switches = set(re.findall(r"(\w+)=", table))
    configs = (ModelConfig, LossConfig, FinetuneConfig, MaskConfig, OptimizerConfig)
    fields = {field.name for config in configs for field in dataclasses.fields(config)}
    assert len(switches) > 15
    assert switches <= fields
    for flow in FLOWS[1:]:
        assert f'"{flow}"' in table


def test_every_command_and_file_it_names_exists():
    root = Path(__file__).parents[1]
    modules = re.findall(r"python -m (launch\.\w+|tests\.\w+)", README)
    assert modules
    paths = [f"{module.replace('.', '/')}.py" for module in modules]
    paths += re.findall(r"\]\((docs/[^)]+)\)", README) + re.findall(r"`(hicmae_jax/\w+\.py)`", README)
    assert [path for path in paths if not (root / path).exists()] == []
    makefile = (root / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"make (test[\w-]*)`?", README))
