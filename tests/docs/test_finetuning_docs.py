"""docs/finetuning.md: its tables, files and example are those of the program."""

import re

import numpy as np

from data_pipeline.corpora.protocols import DATASETS, PROTOCOLS
from launch import protocols
from tests.support.paths import ROOT

DOCS = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")


def test_the_table_of_protocols_is_the_command():
    """Print it with `python -m launch.protocols --markdown`."""
    assert f"\n\n{protocols.markdown()}\n\n" in DOCS


def test_each_data_set_has_its_layout_and_each_protocol_its_commands():
    layouts = DOCS.split("| data set | in `--input`")[1].split("\n\n")[0]
    first_column = " ".join(row.split("|")[1] for row in layouts.splitlines()[2:])
    assert set(re.findall(r"`(\w+)`", first_column)) == set(DATASETS)
    made_up = {"made_up"}
    assert set(re.findall(r"prepare --dataset=(\w+)", DOCS)) == set(DATASETS) - made_up
    assert set(re.findall(r"finetune --config=finetune:(\w+)", DOCS)) == set(PROTOCOLS) - made_up


def test_the_files_that_it_names_are_written():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "hicmae_jax/runs").glob("*.py"))
    files = set(re.findall(r"\b(\w+\.(?:npz|png))\b", DOCS)) - {"sheet.png"}
    assert len(files) > 6
    for file in files - {"last.npz", "best.npz"}:
        assert f'"{file}"' in sources, file
    assert 'f"{epoch}.npz"' in sources


def test_the_example_names_the_clips_with_a_wrong_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "runs" / "crema_d" / "fold-1"
    directory.mkdir(parents=True)
    np.savez(
        directory / "last.npz",
        name=np.array(["a", "b"]),
        true=np.eye(2, dtype=np.float32),
        scores=np.array([[0.9, 0.1], [0.8, 0.2]], np.float32),
    )
    (block,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    exec(compile(block, "docs/finetuning.md", "exec"), {})
    assert capsys.readouterr().out == "['b']\n"
