"""docs/pytorch.md: its Python runs in order as printed, and its table lists the files of a folder."""

import importlib.util
import os
import re
import sys

import numpy as np
import pytest
import torch

from tests.support import exported_folders, flash_and_click
from tests.support.paths import ROOT

DOCS = (ROOT / "docs" / "pytorch.md").read_text(encoding="utf-8")
HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("here")
    (root / "weights").mkdir()
    for name, make in (("b", exported_folders.pretrained), ("crema_d", exported_folders.tuned)):
        _, folder = make(tmp_path_factory.mktemp(name))
        folder.rename(root / "weights" / name)
    flash_and_click.write(root / "face.mp4")
    return root


@pytest.fixture
def importing(monkeypatch):
    """Modules and paths of the examples are forgotten again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "hicmae_torch", raising=False)
    yield
    sys.modules.pop("hicmae_torch", None)


def test_the_python_runs_in_order(folders, importing, monkeypatch, capsys):
    monkeypatch.chdir(folders)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folders / "home"))
    blocks = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    assert len(blocks) == 8
    names = {}
    for number, block in enumerate(blocks):
        if ("transformers" in block or "AutoModel" in block) and not HAS_TRANSFORMERS:
            continue
        exec(compile(block, f"docs/pytorch.md, Python block {number + 1}", "exec"), names)
    printed = capsys.readouterr().out
    assert "torch.Size([8, 8, 32]) torch.Size([8, 2])" in printed
    assert "torch.Size([8, 32]) torch.Size([8, 32])" in printed
    assert "{'ANG': 0." in printed
    assert names["emotions"].values.shape == (1, 6)
    assert re.search(r"^(ANG|DIS|FEA|HAP|NEU|SAD)$", printed, re.MULTILINE)
    if HAS_TRANSFORMERS:
        assert float(names["difference"].abs().max()) < 1e-5
    with torch.no_grad():
        logits = names["tuned"](names["video"], names["log_mel"])
    np.testing.assert_allclose(names["logits"], logits, rtol=1e-4, atol=1e-5)
    assert names["params"].keys() >= {"encoder", "decoder"}


def test_the_table_lists_the_files_of_a_folder(folders):
    table = DOCS.split("| file | what it is |")[1].split("\n\n")[0]
    listed = re.findall(r"`([\w.]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert sorted(listed) == sorted(os.listdir(folders / "weights" / "crema_d"))
