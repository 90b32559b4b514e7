"""The examples in docs/data.md run, and everything that the page names exists."""

import importlib
import re

import jax
import numpy as np

from tests.support.flash_and_click import write
from tests.support.paths import ROOT
from tests.support.set_fixtures import write_set

DOCS = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)


def test_the_example_runs(tmp_path):
    block, _ = EXAMPLES
    for shown, here in (
        ('"/data/voxceleb2"', repr(str(write_set(tmp_path, [64] * 20)))),
        ("batch=4096", "batch=16"),
        ("...  # jit: ", "break  # "),
    ):
        assert shown in block
        block = block.replace(shown, here)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    names = {"sharding": jax.NamedSharding(mesh, jax.P("data")), "step": 3}
    exec(compile(block, "docs/data.md", "exec"), names)
    assert names["batch"]["frames"].shape == (16, 16, 16, 16, 3)
    assert names["batch"]["frames"].sharding == names["sharding"]


def test_the_example_of_a_film_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("film.mkv")
    _, block = EXAMPLES
    names: dict = {}
    exec(compile(block, "docs/data.md", "exec"), names)
    assert names["number"] == 49
    assert abs(len(names["sound"]) - 32_000) < 1_024
    assert names["notes"].lines() == []


def test_everything_that_it_names_exists():
    for module in re.findall(r"`(?:python -m )?((?:launch|benchmarks|hicmae_jax)\.[\w.]+)`", DOCS):
        importlib.import_module(module)
    files = re.findall(r"`(test_\w+\.py)`", DOCS)
    assert len(files) > 5
    assert [file for file in files if not list((ROOT / "tests").rglob(file))] == []
    assert [
        file for file in re.findall(r"`(data_pipeline/[\w/]+\.py)`", DOCS) if not (ROOT / file).exists()
    ] == []
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", DOCS) if f"def {name}(" not in tests] == []
