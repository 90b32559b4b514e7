"""The flag `--config`: changes take effect, mistakes are reported in one line."""

import pytest
from absl import flags

from hicmae_jax.objective.config import LossConfig
from hicmae_jax.settings import pretrain as run_config
from launch import config_flag
from tests.support.processes import HANG, start_module

FILE = """
from ml_collections import ConfigDict, config_dict

def get_config(argument="B"):
    if argument not in ("B", "S"):
        raise ValueError(f"unknown size {argument!r}")
    return ConfigDict({
        "size": argument,
        "epochs": 100,
        "steps": config_dict.placeholder(int),
        "augment": True,
        "model": {"width": config_dict.placeholder(int), "taps": config_dict.placeholder(tuple)},
        "loss": {"temperature": 0.07, "negatives": "global"},
        "data": {"sets": ()},
    })
"""


@pytest.fixture
def parsed(tmp_path, monkeypatch):
    """Parses words after the program's name in a directory that has `recipe.py`."""
    (tmp_path / "recipe.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)

    def parse(*words):
        flag_values = flags.FlagValues()
        flags.DEFINE_string("workdir", None, "", flag_values=flag_values)
        assert config_flag.parse(["program", *words], flag_values) == ["program"]
        return flag_values.config.to_dict()

    return parse


def test_a_recipe_with_its_argument_and_changes_is_read(parsed):
    assert parsed("--config=recipe.py")["size"] == "B"
    config = parsed(
        "--config=recipe.py:S",
        "--config.steps=1000",
        "--config.model.width=256",
        "--config.model.taps=(2, 4)",
        "--config.loss.temperature=1",
        "--config.loss.negatives=group:40",
        "--noconfig.augment",
        "--config.data.sets=('data/a', 'data/b')",
    )
    assert config == {
        "size": "S",
        "epochs": 100,
        "steps": 1000,
        "augment": False,
        "model": {"width": 256, "taps": (2, 4)},
        "loss": {"temperature": 1.0, "negatives": "group:40"},
        "data": {"sets": ("data/a", "data/b")},
    }


def test_none_unsets_a_whole_number(parsed):
    config = parsed("--config=recipe.py", "--config.epochs=none", "--config.steps=5")
    assert (config["epochs"], config["steps"]) == (None, 5)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--config.data.sets=a --config.data.sets=b", ("b",)),
        ("--config.data.sets=('a','b') --config.data.sets=c", ("c",)),
        ("--config.data.sets=a --config.data.sets=('b','c')", ("b", "c")),
        ("--config.data.sets=['a','b']", ("a", "b")),
        ("--config.data.sets a --config.data.sets b", ("b",)),
        ("--config.data.sets=a --config.data.sets=none", ()),
        ("--config.data.sets=a --config.data.sets=", ()),
        ("--config.data.sets=none --config.data.sets=a", ("a",)),
        ("--config.data.sets=./none", ("./none",)),
        ("--config.data.sets=data/a-b*", ("data/a-b*",)),
        ("--config.data.sets=a,data/b.c,d", ("a", "data/b.c", "d")),
    ],
)
def test_of_a_tuple_given_twice_the_last_counts_as_for_scalars(parsed, words, expected):
    assert parsed("--config=recipe.py", *words.split())["data"]["sets"] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--config.model.taps=(1,2) --config.model.taps=(3,)", (3,)),
        ("--config.model.taps=(1,2) --config.model.taps=3", (3,)),
        ("--config.model.taps=(1,2) --config.model.taps=none", None),
        ("--config.model.taps=none --config.model.taps=(1.5,2)", (1.5, 2)),
        ("--config.model.taps=()", ()),
        ("--config.model.taps=1,2", (1, 2)),
    ],
)
def test_so_it_does_for_numbers_and_for_a_tuple_that_may_be_none(parsed, words, expected):
    assert parsed("--config=recipe.py", *words.split())["model"]["taps"] == expected


def test_a_list_of_a_users_recipe_is_changed_like_a_tuple(parsed, tmp_path):
    (tmp_path / "own.py").write_text(FILE.replace('"sets": ()', '"sets": ["x"]'))
    assert parsed("--config=own.py", "--config.epochs=3")["data"]["sets"] == ["x"]
    assert list(
        parsed("--config=own.py", "--config.data.sets=a", "--config.data.sets=b")["data"]["sets"]
    ) == ["b"]
    assert list(parsed("--config=own.py", "--config.data.sets=none")["data"]["sets"]) == []


def test_a_value_may_follow_a_space_or_stand_in_a_file_of_flags(parsed, tmp_path):
    assert parsed("--config", "recipe.py:S", "--config.epochs", "7")["epochs"] == 7
    (tmp_path / "run.flags").write_text("--config=recipe.py:S\n--config.epochs=8\n")
    assert parsed("--flagfile=run.flags")["epochs"] == 8


def test_a_setting_that_the_recipe_unsets_can_be_set_again():
    flag_values = flags.FlagValues()
    words = ["--config=pretrain:S,runlocal", "--config.epochs=3"]
    words += ["--config.warmup_epochs=1", "--config.steps=none", "--config.warmup_steps=none"]
    config_flag.parse(["program", *words], flag_values)
    assert (flag_values.config.epochs, flag_values.config.warmup_epochs) == (3, 1)
    assert flag_values.config.steps is None


def test_the_recipe_with_changes_of_every_type_is_a_run():
    flag_values = flags.FlagValues()
    words = [
        "--config=pretrain:S",
        "--config.data.sets=data/dev",
        "--config.epochs=none",
        "--config.warmup_epochs=none",
        "--config.steps=20",
        "--config.warmup_steps=4",
        "--config.model.encoder_dim=256",
        "--config.model.encoder_heads=4",
        "--config.model.skip_layers=(5, 10)",
        "--config.model.skip_order=shallowest-first",
        "--config.loss.contrastive_weight=0",
        "--noconfig.loss.frame_difference",
        "--config.data.threads=1",
    ]
    config_flag.parse(["program", *words], flag_values)
    run = run_config.from_config_dict(flag_values.config, "cpu")
    assert run.total_steps(1) == 20
    assert (run.model.encoder_dim, run.model.decoder_dim) == (256, 192)
    assert run.model.decoder_skips == (5, 10)
    assert run.loss == LossConfig(contrastive_weight=0.0, negatives="group:40", frame_difference=False)
    assert (run.data.data, run.data.threads) == (("data/dev",), 1)


def test_a_change_may_come_before_the_recipe(parsed):
    assert parsed("--config.epochs=9", "--workdir=x", "--config=recipe.py")["epochs"] == 9


@pytest.mark.parametrize(
    ("words", "line"),
    [
        # Settings that do not exist.
        (
            "--config.model.widht=3",
            "there is no setting --config.model.widht; the nearest is --config.model.width",
        ),
        (
            "--config.modl.width=3",
            "there is no setting --config.modl.width; the nearest is --config.model.width",
        ),
        (
            "--config.temperature=1",
            "there is no setting --config.temperature; the nearest is --config.loss.tem",
        ),
        ("--noconfig.augmnt", "there is no setting --config.augmnt; the nearest is --config.augment"),
        ("--config.model.width.x=3", "there is no setting --config.model.width.x"),
        ("--config.=3", "there is no setting --config.;"),
        ("--config.model=3", "--config.model is a section: change a setting, such as --config.model."),
        # Values of the wrong type.
        ("--config.epochs=many", "--config.epochs=many: not a whole number or none"),
        ("--config.epochs=1.5", "--config.epochs=1.5: not a whole number or none"),
        ("--config.loss.temperature=hot", "--config.loss.temperature=hot: could not convert string to float"),
        ("--config.augment=maybe", "--config.augment=maybe: "),
        ("--config.model.taps=(1,", "--config.model.taps=(1,: Error while parsing string"),
        ("--config.epochs", "Missing value for flag --config.epochs"),
        # Other words.
        ("--confg.epochs=3", "Unknown command line flag 'confg.epochs'"),
        ("--wrkdir=x", "Unknown command line flag 'wrkdir'. Did you mean: workdir"),
        ("more", "do not know what to do with 'more': options begin with --"),
        ("--config=recipe.py:S", "--config is given more than once"),
        ("--flagfile=nowhere", "ERROR:: Unable to open flagfile: "),
    ],
)
def test_a_wrong_word_is_one_line(parsed, words, line):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        parsed("--config=recipe.py", *words.split())
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_a_missing_flag_is_one_line_with_its_help(parsed, tmp_path):
    flag_values = flags.FlagValues()
    flags.DEFINE_string("run", None, "Directory of the run.", flag_values=flag_values, required=True)
    with pytest.raises(ValueError, match=r"^--run is missing: Directory of the run\.$"):
        config_flag.parse(["program", "--config=recipe.py"], flag_values)


@pytest.mark.parametrize("words", [(), ("--workdir=x",), ("--config.epochs=3",)])
def test_a_missing_recipe_is_one_line_with_an_example(parsed, words):
    line = r"^--config is missing: name a recipe or a file, such as --config=pretrain:B$"
    with pytest.raises(ValueError, match=line):
        parsed(*words)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--config", "--config is missing: name a recipe or a file"),
        ("--config --workdir=x", "--config is missing: name a recipe or a file"),
        ("--config=", "--config is missing: name a recipe or a file"),
        ("--config=nowhere.py:B", "--config=nowhere.py:B: there is no file nowhere.py; the recipes are "),
        (
            "--config=.",
            "--config=.: there is no file .; the recipes are ablations, demo, evidence, finetune, pretrain, "
            "scaling",
        ),
        ("--config=pretrian:B", "--config=pretrian:B: there is no recipe pretrian; the nearest is pretrain"),
        ("--config=recipe", "--config=recipe: there is no recipe recipe; the nearest is "),
        ("--config=recipe.py:XL", "--config=recipe.py:XL: line 6: unknown size 'XL'"),
    ],
)
def test_a_wrong_file_is_one_line(parsed, words, line):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        parsed(*words.split())
    assert str(raised.value).startswith(line)


HELD = "--config=own.py: the configuration that get_config made holds itself"
HOLDS_ITSELF = """from ml_collections import ConfigDict
def get_config():
    config = ConfigDict({{"size": "B", "model": {{"width": 3}}}})
    {}
    return config
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def get_config(:", "--config=own.py: own.py, line 1: invalid syntax"),
        ("import nothing_of_the_kind", "--config=own.py: line 1: ModuleNotFoundError: No module named"),
        (
            "\ndef get_config():\n    return size",
            "--config=own.py: line 3: NameError: name 'size' is not defined",
        ),
        (
            "size = 'B'",
            "--config=own.py: AttributeError: module 'configuration' has no attribute 'get_config'",
        ),
        (
            "def get_config():\n    return {'size': 'B'}",
            "--config=own.py: get_config made a dict, not a ConfigDict",
        ),
        ("def get_config(size):\n    pass", "--config=own.py: TypeError: get_config() missing 1 required"),
        ("exit()", "--config=own.py: line 1: the recipe ends the program by exit(None)"),
        (
            "import sys\ndef get_config():\n    sys.exit('no\\nsize')",
            "--config=own.py: line 3: the recipe ends the program by exit('no\\nsize')",
        ),
        ("raise GeneratorExit", "--config=own.py: line 1: GeneratorExit"),
        (
            "def get_config():\n    return get_config()",
            "--config=own.py: line 2: RecursionError: maximum rec",
        ),
        (
            "from own import get_config",
            "--config=own.py: line 1: ImportError: cannot import name 'get_config' from partially",
        ),
        (
            "from hicmae_jax.settings import recipes\ndef get_config():\n    return recipes.load('./own.py')",
            "--config=own.py: line 3: ./own.py: the recipe loads itself",
        ),
        (HOLDS_ITSELF.format("config.model.all = config"), HELD),
        (HOLDS_ITSELF.format("config.model.all = config.model"), HELD),
        (HOLDS_ITSELF.format("config.size = config.get_ref('size')"), "--config=own.py: line 4: MutabilityE"),
        ("size = '\0'", "--config=own.py: "),
    ],
)
def test_a_mistake_in_a_users_recipe_is_one_line_that_says_where(parsed, tmp_path, text, line, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m` has it
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        parsed("--config=own.py")
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


LAUNCHER = """
from absl import flags
from launch import command, config_flag

def main(argv):
    print(flags.FLAGS.config.epochs)
    return 3

if __name__ == "__main__":
    command.run("launcher", lambda: None, main, parse=config_flag.parse)
"""


def test_a_command_ends_with_the_code_of_main_or_with_one_line_and_code_1(tmp_path, monkeypatch):
    (tmp_path / "recipe.py").write_text(FILE)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    monkeypatch.chdir(tmp_path)
    right = start_module("launcher", "--config=recipe.py", "--config.epochs=12")
    wrong = start_module("launcher", "--config=recipe.py", "--config.epoch=12")
    assert right.communicate(timeout=HANG) == ("12\n", "")
    assert right.returncode == 3
    line = "launcher: there is no setting --config.epoch; the nearest is --config.epochs\n"
    assert wrong.communicate(timeout=HANG) == ("", line)
    assert wrong.returncode == 1
