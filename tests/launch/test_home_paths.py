"""`~` at the start of a path is the home directory, in flags, lists of flags, settings and recipes."""

import pytest
from absl import flags

from launch import config_flag, home_paths


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of me")


RECIPE = """
from ml_collections import ConfigDict

def get_config(argument=""):
    return ConfigDict({
        "size": argument,
        "log": {"wandb": "~project"},
        "data": {"sets": ("~/of the recipe",), "weights": (1.0,)},
    })
"""


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("~", "/home/of me"),
        ("~/x", "/home/of me/x"),
        ("~/", "/home/of me/"),
        ("x/~", "x/~"),
        ("./~/x", "./~/x"),
        ("a~", "a~"),
        ("", ""),
        ("gs://bucket/~", "gs://bucket/~"),
    ],
)
def test_only_the_start_of_a_path_is_expanded(given, expanded):
    assert home_paths.expand("--run", given) == expanded


@pytest.mark.parametrize("path", ["~no-such-user/x", "~no-such-user"])
def test_an_unknown_home_is_refused(path):
    with pytest.raises(ValueError, match=f"^--run={path}: .* no home directory ~no-such-user:"):
        home_paths.expand("--run", path)


def test_without_a_home_the_path_is_refused(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    with pytest.raises(ValueError, match=r"^--run=~/x: this machine knows no home directory ~:"):
        home_paths.expand("--run", "~/x")


def test_flags_lists_and_settings_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.py").write_text(RECIPE)
    flag_values = flags.FlagValues()
    flags.DEFINE_string("run", None, "", flag_values=flag_values)
    flags.DEFINE_string("branch_from", None, "", flag_values=flag_values)
    flags.DEFINE_list("data", ["a"], "", flag_values=flag_values)
    flags.DEFINE_integer("step", None, "", flag_values=flag_values)

    def parsed(*words):
        flag_values.unparse_flags()
        config_flag.parse(["program", *words], flag_values)
        home_paths.expand_flags(flag_values)
        return flag_values

    found = parsed("--config=~/own.py:S", "--run=~/r", "--data=~/a,b,~/c,d~", "--step=3")
    assert (found.run, found.branch_from, found.step) == (f"{tmp_path}/r", None, 3)
    assert found.data == [f"{tmp_path}/a", "b", f"{tmp_path}/c", "d~"]
    assert found.config.size == "S"
    assert found.config.data.to_dict() == {"sets": (f"{tmp_path}/of the recipe",), "weights": (1.0,)}
    assert found.config.log.wandb == "~project"


def test_settings_of_the_command_line_are_expanded(tmp_path):
    (tmp_path / "own.py").write_text(RECIPE)
    flag_values = flags.FlagValues()
    words = [f"--config={tmp_path}/own.py", "--config.data.sets=('~/a', 'b')"]
    config_flag.parse(["program", *words], flag_values)
    home_paths.expand_flags(flag_values)
    assert flag_values.config.data.sets == ("/home/of me/a", "b")
