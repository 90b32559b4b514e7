"""Each row of the ablations is a valid run, is what the paper's table says, and changes nothing else."""

import re

import pytest

from configs import ablations as recipe
from configs import finetune, pretrain
from hicmae_jax.model import masking
from hicmae_jax.model.config import FLOWS, MaskConfig
from hicmae_jax.settings import ablations, recipes
from hicmae_jax.settings import finetune as finetune_settings
from hicmae_jax.settings import pretrain as pretrain_settings
from hicmae_jax.settings.schema import flatten
from launch import sizes as command
from tests.support.paths import ROOT

PUBLISHED = pretrain.get_config("B")


def pretraining(name, **changes):
    config = recipes.load(f"ablations:{name}")
    config.data.sets = ("data/dev",)
    config.update(changes)
    return pretrain_settings.from_config_dict(config, "cpu")


def finetuning(name, protocol="mafw_11"):
    config = recipes.load(f"ablations:{name},{protocol}")
    config.data.sets = ("data/mafw",)
    return finetune_settings.from_config_dict(config, "cpu")


def rows(table):
    return [f"{table}/{row}" for row in ablations.TABLES[table]]


def changes(config, published):
    before, after = (flatten(each.to_dict()) for each in (published, config))
    assert before.keys() == after.keys()
    return {name: value for name, value in after.items() if value != before[name]}


def test_table_13_leaves_out_one_part_after_the_other():
    parts = {
        name: (
            pretraining(name).model.skip_connections,
            pretraining(name).loss.contrastive_weight > 0,
            finetuning(name).finetune.feature_fusion,
        )
        for name in rows("13")
    }
    assert list(parts.values()) == [
        (False, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
    ]
    assert list(parts) == ["13/none", "13/skips", "13/skips-contrast", "13/all"]


def test_table_14_changes_the_weight_of_contrast():
    weights = [pretraining(name).loss.contrastive_weight for name in rows("14")]
    assert weights == [0, 0.001, 0.0025, 0.005, 0.01, 0.1]
    assert [float(name.removeprefix("14/")) for name in rows("14")] == weights


def test_table_15_shares_twelve_layers():
    models = [pretraining(name).model for name in rows("15")]
    assert [(model.encoder_depth, model.fusion_depth) for model in models] == [
        (12, 0),
        (11, 1),
        (10, 2),
        (8, 4),
    ]
    assert [model.skip_layers for model in models] == [(5, 8, 12), (4, 8, 11), (4, 7, 10), (3, 6, 8)]


def test_table_16_has_every_flow():
    assert tuple(pretraining(name).model.fusion_flow for name in rows("16")) == FLOWS


def test_masks_have_every_kind_and_the_ratios_in_their_names():
    assert pretraining("masks/default").masks == pretraining("decoded/all").masks == MaskConfig()
    masks = {name: pretraining(name).masks for name in rows("masks")}
    assert {mask.video_kind for mask in masks.values()} == {"tube", "random"}
    assert {mask.audio_kind for mask in masks.values()} == {"random", "time", "frequency"}
    medium = masks.pop("masks/medium")
    assert (medium.video_ratio, medium.audio_ratio) == (0.75, 0.6)  # figure 8
    for name, mask in masks.items():
        if found := re.search(r"(video|audio)-([\d.]+)$", name):
            assert getattr(mask, f"{found[1]}_ratio") == float(found[2])


@pytest.mark.parametrize(("row", "share"), [("half", 0.5), ("quarter", 0.25)])
def test_decoded_rows_decode_a_part_of_both_modalities(row, share):
    kinds = []
    for name in (f"decoded/{row}", f"decoded/{row}-cells"):
        run = pretraining(name)
        for (_, decoded), (_, masked) in zip(run.masks.sizes(run.model), MaskConfig().sizes(run.model)):
            assert decoded == int(share * masked)
        kinds.append(run.masks.video_decode_kind)
    assert tuple(kinds) == masking.DECODE_KINDS


@pytest.mark.parametrize("name", ablations.names())
def test_a_row_changes_what_it_says_and_nothing_else(name):
    row = ablations.row(name)
    made = recipe.get_config(name)
    assert changes(made, PUBLISHED).items() <= row.pretrain.items()
    values = flatten(made.to_dict())
    assert {key: values[key] for key in row.pretrain} == row.pretrain
    assert changes(recipe.get_config(f"{name},crema_d"), finetune.get_config("crema_d")) == row.finetune
    assert pretraining(name, size="mu").model.encoder_dim == 64  # a row may be tried on another size


def test_of_each_table_one_row_is_the_published_run_and_no_two_are_alike():
    published = pretraining("13/all").values
    for table in ablations.TABLES:
        stages = [(pretraining(name).values, ablations.row(name).finetune) for name in rows(table)]
        assert stages.count((published, {})) == 1
        assert all(stages.count(stage) == 1 for stage in stages)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("list", r"'list' is not a row: choose one of 13/none, 13/skips, .*, decoded/quarter-cells$"),
        ("13/", "'13/' is not a row"),
        ("17/all", "'17/all' is not a row"),
        ("13/none,mafw", "'mafw' is not a protocol: choose one of"),
    ],
)
def test_another_argument_is_refused(argument, line):
    with pytest.raises(ValueError, match=line):
        recipe.get_config(argument)


def listed():
    """Row → GFLOP, on the page of the model."""
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    table = page.split("\n## Ablations\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \|.*\| ([\d.]+) \|$", table, re.MULTILINE))


def test_the_page_lists_every_row():
    assert list(listed()) == ablations.names()


@pytest.mark.slow
def test_the_command_prints_every_row_with_the_costs_of_the_page():
    printed = {words[0]: words[1:] for line in list(command.of_ablations())[2:] for words in [line.split()]}
    assert {name: words[1] for name, words in printed.items()} == listed()
    assert printed["13/all"] == ["99.61", "86.0", "(the", "recipe)"]
    assert printed["decoded/half-cells"][:2] == ["99.61", "56.3"]
