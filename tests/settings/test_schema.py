"""A new setting is one field of a dataclass; recipe, checks, listing and documentation follow."""

import dataclasses
import re

import pytest

from configs import pretrain as recipe
from data_pipeline.common.setting import check_limits, setting
from hicmae_jax.settings import finetune, pretrain
from hicmae_jax.settings.schema import Schema, Section, flatten, nested
from launch import settings as command
from tests.support.paths import ROOT


@dataclasses.dataclass(frozen=True, kw_only=True)
class General:
    seed: int = setting(0, "of everything", at_least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paint:
    layers: int = setting(2, "how many", at_least=1)
    colour: str = setting("red", "which", choices=("red", "blue"), name="tint")
    width: int = setting(8, "as the layers say")
    seed: int = setting(0, "set elsewhere")

    def __post_init__(self):
        check_limits(self)


SCHEMA = Schema(
    Section(General), {"paint": Section(Paint, elsewhere=("seed",), open=("width",), auto=("tint",))}
)


def test_the_recipe_has_every_setting_with_its_default():
    assert flatten(SCHEMA.defaults().to_dict()) == {
        "seed": 0,
        "paint.layers": 2,
        "paint.tint": "auto",
        "paint.width": None,
    }


def test_a_dataclass_is_made_of_its_settings_and_of_what_is_set_elsewhere():
    values = SCHEMA.read({"seed": 3, "paint": {"layers": 1, "tint": "blue", "width": None}})
    paint = SCHEMA.make("paint", Paint, values, seed=values["seed"])
    assert paint == Paint(layers=1, colour="blue", width=8, seed=3)
    assert values | SCHEMA.values_of("paint", paint) == {
        "seed": 3,
        "paint.layers": 1,
        "paint.tint": "blue",
        "paint.width": 8,
    }


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"paint.layers": 0}, "paint.layers 0 is not at least 1"),
        ({"paint.tint": "green"}, "paint.tint = 'green': choose one of red, blue"),
    ],
)
def test_an_error_has_the_dotted_name(changes, line):
    values = SCHEMA.read(flatten(SCHEMA.defaults().to_dict()) | changes)
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        SCHEMA.make("paint", Paint, values)
    assert str(refused.value) == line


def test_the_rows_say_type_default_limits_and_meaning():
    assert SCHEMA.rows() == [
        ("seed", "a whole number", "0", "at least 0", "of everything"),
        ("paint.layers", "a whole number", "2", "at least 1", "how many"),
        ("paint.tint", "a text", "auto", "auto, red, blue", "which"),
        ("paint.width", "a whole number or None", "none", "", "as the layers say"),
    ]


def test_flat_and_nested_settings_are_the_same():
    tree = {"seed": 1, "paint": {"layers": 2, "tint": "red"}}
    assert nested(flatten(tree)) == tree


# --- The settings of each kind of run -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_every_setting_has_a_meaning_of_one_line(kind):
    for key, entry in command.SCHEMAS[kind].entries.items():
        assert entry.about.meaning, key
        assert "\n" not in entry.about.meaning, key


@pytest.mark.parametrize("run", [pretrain.PretrainSettings, finetune.FinetuneSettings])
def test_every_section_is_an_attribute_of_the_run(run):
    for section in run.schema.sections:
        assert hasattr(run, section)


def test_the_documented_tables_are_those_of_the_code():
    """Print them with `python -m launch.settings --markdown`, the second with `--kind=finetune`."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    tables = ["| setting |" + rest.split("\n\n")[0].rstrip() for rest in text.split("| setting |")[1:]]
    assert tables == [command.markdown(kind) for kind in command.SCHEMAS]
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Pre-training", "Fine-tuning"]


def test_the_listing_has_the_values_of_a_recipe():
    assert "batch = 160 " in command.listing("pretrain")
    assert "batch = 32 " in command.listing("pretrain", "demo")
    assert len(command.listing("pretrain", "demo").splitlines()) == 2 * len(pretrain.SCHEMA.entries)


def test_a_recipe_says_which_kind_of_run_it_is():
    listed = command.listing("pretrain", "finetune:ravdess").splitlines()
    assert len(listed) == 2 * len(finetune.SCHEMA.entries)
    assert "data.protocol = ravdess    a text" in listed
    assert command.listing("finetune", "pretrain:B") == command.listing("pretrain", "pretrain:B")


def test_a_recipe_with_a_mistake_is_compared_with_its_own_kind(tmp_path):
    recipe = tmp_path / "recipe.py"
    lines = [
        "from configs import finetune",
        "def get_config():",
        "    config = finetune.get_config('made_up')",
    ]
    recipe.write_text("\n".join([*lines, "    config.tuning.mod = 'full'", "    return config"]))
    with pytest.raises(ValueError, match=r"^there is no setting tuning.mod; the nearest is tuning.mode$"):
        command.listing("pretrain", str(recipe))


def test_a_setting_that_a_recipe_computes_of_others_may_fail_in_one_line():
    config = recipe.get_config("B")
    config.log.every = config.get_ref("batch") // config.get_ref("accumulate")
    config.batch = 320
    assert pretrain.SCHEMA.read(config)["log.every"] == 320
    config.accumulate = 0
    line = "the configuration cannot be computed: ZeroDivisionError: integer division or modulo by zero"
    with pytest.raises(ValueError, match=f"^{line}$"):
        pretrain.SCHEMA.read(config)
