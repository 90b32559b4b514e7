"""Points of a study: axes and tables are read, and mistakes are named in one line."""

import re

import pytest

from hicmae_jax.studies import grid

KNOWN = ("size", "seed", "model.skip_layers", "optimizer.base_rate")


def test_every_combination_of_the_axes():
    axes = grid.axes(["size=T,S", "seed=0,1"], KNOWN)
    points = grid.combinations(axes)
    assert [grid.name_of(point) for point in points] == [
        "size=T,seed=0",
        "size=T,seed=1",
        "size=S,seed=0",
        "size=S,seed=1",
    ]
    assert points[1] == {"size": "T", "seed": "1"}


def test_a_comma_inside_brackets_separates_no_values():
    found = grid.axes(["model.skip_layers=(2,3,4),[1,2,4],(4,)"], KNOWN)
    assert found == {"model.skip_layers": ["(2,3,4)", "[1,2,4]", "(4,)"]}


def test_recipes_are_an_axis_and_names_are_those_of_directories():
    (point, _) = grid.combinations(grid.axes(["config=./my/recipe.py:B,pretrain:S"], KNOWN))
    assert grid.name_of(point) == "config=.-my-recipe.py-B"
    assert grid.name_of({"name": "../../etc"}) == "etc"
    assert grid.name_of({}) == "run"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sizes=T"], "--grid=sizes=T: there is no setting sizes; the nearest is size"),
        (["size"], "--grid=size: give a setting and its values, such as --grid=size=T,S,B"),
        (["size=T,"], "--grid=size=T,: give a setting and its values, such as --grid=size=T,S,B"),
        (["size=T,S,T"], "--grid=size=T,S,T: the value T is given twice"),
        (["size=T", "size=S"], "--grid=size=S: size has values already; give all of them at once"),
    ],
)
def test_mistakes_in_axes(words, line):
    with pytest.raises(ValueError, match=re.escape(line)) as found:
        grid.axes(words, KNOWN)
    assert str(found.value) == line


def table(tmp_path, text):
    path = tmp_path / "runs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_has_a_run_a_line(tmp_path):
    path = table(tmp_path, 'name,size,model.skip_layers\nfirst,T,"(1,2,4)"\n\n,S,\n')
    first, second = grid.table(path, KNOWN)
    assert grid.name_of(first) == "first"
    assert grid.settings_of(first) == {"size": "T", "model.skip_layers": "(1,2,4)"}
    assert (grid.name_of(second), grid.settings_of(second)) == ("size=S", {"size": "S"})


def test_a_table_is_combined_with_axes(tmp_path):
    rows = grid.table(table(tmp_path, "name,size\nfirst,T\n,S\n"), KNOWN)
    points = grid.combined(rows, grid.combinations(grid.axes(["seed=0,1"], KNOWN)))
    assert [grid.name_of(point) for point in points] == [
        *("first,seed=0", "first,seed=1", "size=S,seed=0", "size=S,seed=1")
    ]
    assert grid.settings_of(points[1]) == {"size": "T", "seed": "1"}
    assert [grid.name_of(point) for point in grid.combined(rows, [{}])] == ["first", "size=S"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("size\n", "no runs"),
        ("size,colour\nT,red\n", "line 1: there is no setting colour"),
        ("size,size\nT,S\n", "line 1: the column size is there twice"),
        ("size,seed\nT,0\nS\n", "line 3: 1 cells, but 2 columns"),
    ],
)
def test_mistakes_in_a_table(tmp_path, text, line):
    with pytest.raises(ValueError, match=line) as found:
        grid.table(table(tmp_path, text), KNOWN)
    assert "runs.csv" in str(found.value)
