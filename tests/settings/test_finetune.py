"""From a recipe to the settings of a fine-tuning run: values come back, and every mistake is one line."""

import json

import pytest

from configs import finetune as recipe
from data_pipeline.corpora.protocols import PROTOCOLS
from hicmae_jax.model import sizes
from hicmae_jax.settings import finetune, schema
from hicmae_jax.settings import recorded as recorded_config
from hicmae_jax.settings.finetune import SCHEMA


def run_of(changes=(), argument="crema_d", platform="cpu", **choices):
    config = recipe.get_config(argument).lock()
    config.update_from_flattened_dict({"data.sets": ("data/crema_d",)} | dict(changes))
    return finetune.from_config_dict(config, platform, **choices)


@pytest.mark.parametrize("name", tuple(PROTOCOLS))
def test_the_recipe_of_every_protocol_is_the_published_one(name):
    run = run_of(argument=name)
    published = PROTOCOLS[name]
    assert (run.batch, run.general.epochs) == (published.batch, published.epochs)
    optimizer = run.optimizer_config(10)
    assert (optimizer.base_rate, optimizer.base_minimum, optimizer.layer_decay) == (1e-3, 1e-6, 0.75)
    assert (optimizer.betas, optimizer.weight_decay, optimizer.warmup_steps) == ((0.9, 0.999), 0.05, 50)
    assert (run.mixing.mixup == 0) == published.regression
    assert run.model == sizes.model_config("B")


def test_the_recipe_has_every_setting_and_no_other():
    assert set(schema.flatten(recipe.get_config().to_dict())) == set(SCHEMA.entries)


def test_settings_come_back_from_their_record():
    changes = {"initial.weights": "runs/b", "initial.step": 100, "data.fold": 3, "finetune.modality": "video"}
    run = run_of(changes | {"tuning.mode": "frozen"}, platform="gpu")
    read_back = json.loads(json.dumps(run.to_dict()))
    assert finetune.from_config_dict(read_back, "gpu") == run
    here = finetune.recorded(read_back, "cpu")
    assert (here.data, here.model, here.finetune, here.initial) == (
        run.data,
        run.model,
        run.finetune,
        run.initial,
    )
    assert here.execution.dtype == run.execution.dtype


def test_a_record_from_before_sets_could_lie_in_buckets_is_read():
    record = run_of().to_dict()
    del record["data"]["cache"], record["data"]["cache_gb"]
    assert finetune.recorded(record, "cpu").data == run_of().data


def test_the_model_is_that_of_the_weights_unless_a_setting_says_otherwise():
    small = sizes.model_config("S", frames=8)
    assert run_of(initial=small).model == small
    assert run_of({"model.image_size": 96}, initial=small).model == sizes.model_config(
        "S", frames=8, image_size=96
    )
    begun = {f"model.{name}": value for name, value in vars(small).items()}
    assert run_of(begun=begun).model == small


def test_only_a_model_that_is_trained_whole_drops_paths():
    assert run_of().for_outputs(6).drop_path == 0.1
    assert run_of({"tuning.mode": "frozen"}).for_outputs(6).drop_path == 0.0
    assert run_of().for_outputs(6).outputs == 6


MISTAKES = [
    ({"data.sets": ()}, "data.sets is empty: name the directory that launch.prepare"),
    (
        {"data.sets": ("a", "a"), "data.other_protocols": ("ravdess",)},
        "data.sets ('a', 'a') names a set twice",
    ),
    ({"data.sets": ("a", "b")}, "data.other_protocols (): give one for each of the 1 sets after the first"),
    ({"data.fold": 0}, "data.fold"),
    ({"data.selection": "best"}, "data.selection"),
    ({"data.validation_share": 1.0}, "data.validation_share"),
    ({"data.labels_share": 0.0}, "data.labels_share"),
    ({"initial.step": 3}, "initial.weights is empty, so step and best choose nothing: name a run"),
    (
        {"initial.weights": "runs/b", "initial.step": 3, "initial.best": True},
        "initial.best and step 3 are both",
    ),
    ({"tuning.mode": "half"}, "tuning.mode"),
    (
        {"tuning.modality_dropout": 0.5, "finetune.modality": "audio"},
        "tuning.modality_dropout 0.5 needs two modalities, but finetune.modality is audio",
    ),
    ({"mixing.group": 15}, "mixing.group 15: batch / accumulate, 56 clips, is not a multiple of it"),
    ({"mixing.group": 56, "accumulate": 2}, "mixing.group 56: batch / accumulate, 28 clips"),
    ({"loss.kind": "focal"}, "loss.kind"),
    ({"scoring.batch": 0}, "scoring.batch"),
    ({"warmup_epochs": 50}, "warmup_epochs 50 is not in 0 … 49, short of epochs 50"),
    ({"model.encoder_heads": 7}, "model.encoder_dim"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message[:24] for _, message in MISTAKES])
def test_a_mistake_is_one_line_with_the_name_of_the_setting(changes, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 -- compared below, with its parentheses
        run_of(changes)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("argument", ["crema", "crema_d,fast", "crema_d,runlocal,S"])
def test_an_unknown_recipe_is_one_line(argument):
    with pytest.raises(ValueError, match=r"crema") as raised:
        recipe.get_config(argument)
    assert "\n" not in str(raised.value)


def test_the_other_kind_of_run_is_named():
    with pytest.raises(ValueError, match="this is not a fine-tuning run: name the directory of a fold"):
        finetune.recorded({"seed": 0, "data": {"sets": ["a"]}}, "cpu")
    with pytest.raises(ValueError, match=r"the run is one of fine-tuning, not of pre-training: "):
        recorded_config.load(run_of().to_dict(), "cpu")
