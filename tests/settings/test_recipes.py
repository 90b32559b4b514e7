"""Recipes are found by name from any directory, and by path."""

import pytest

from hicmae_jax.settings import recipes


def test_a_recipe_is_found_by_name_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.names() == ["ablations", "demo", "evidence", "finetune", "pretrain", "scaling"]
    assert recipes.load("pretrain:mu,runlocal").size == "mu"
    assert recipes.load("pretrain:avf-L").size == "avf-L"
    assert recipes.load("demo").steps == 800


def test_a_file_is_found_by_its_path_and_may_use_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = "from configs import pretrain\n\ndef get_config(size):\n    return pretrain.get_config(size)\n"
    (tmp_path / "own.py").write_text(own)
    (tmp_path / "pretrain.py").write_text("")
    assert recipes.load("own.py:S") == recipes.load(f"{tmp_path}/own.py:S") == recipes.load("pretrain:S")
    assert recipes.find("./pretrain.py").resolve() == tmp_path / "pretrain.py"
    assert recipes.find("pretrain").parent == recipes.DIRECTORY


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (
            "pretrian:B",
            "pretrian:B: there is no recipe pretrian; the nearest is pretrain; name a file of your own",
        ),
        (
            "own.py",
            "own.py: there is no file own.py; the recipes are ablations, demo, evidence, finetune, pretrain, "
            "scaling",
        ),
        (
            "",
            ": there is no file ; the recipes are ablations, demo, evidence, finetune, pretrain, scaling",
        ),
        ("pretrain:XL,fast", "pretrain:XL,fast: line "),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path, monkeypatch, recipe, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        recipes.load(recipe)
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
