"""Which settings may change when a run resumes, which may not, and the messages about them."""

import copy
import dataclasses
import json

import pytest

from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.runs import resuming
from hicmae_jax.settings import finetune
from hicmae_jax.settings import pretrain as run_config
from tests.support import tiny_model

CONFIG = {
    "seed": 3,
    "batch": 16,
    "epochs": 100,
    "optimizer": {"kind": "adamw", "base_rate": 1e-3},
    "model": dataclasses.asdict(tiny_model.model_config()),
    "execution": dataclasses.asdict(ExecutionConfig()),
    "data": {"sets": ("a", "b"), "weights": (), "share": 1.0, "stride": 4, "shuffle_window": 0, "threads": 2},
}
DATA = {"a": "0f0f", "b": "1e1e"}
# As read back from a file: tuples are lists.
RECORD = json.loads(json.dumps({"config": CONFIG, "data": DATA}))


def changed(**settings):
    """The config with other values, given by dotted name; a double underscore stands for the dot."""
    config = copy.deepcopy(CONFIG)
    for name, value in settings.items():
        *sections, last = name.split("__")
        place = config
        for section in sections:
            place = place[section]
        place[last] = value
    return config


def test_the_same_settings_resume_without_a_listed_change():
    resuming.check_fits(RECORD, CONFIG)
    resuming.check_same_batches(RECORD, CONFIG, DATA)
    assert resuming.changes(RECORD, CONFIG) == []


def test_every_differing_field_of_the_model_is_named():
    config = changed(model__encoder_dim=64, model__skip_layers=(2, 3), execution__scan_encoders=True, batch=8)
    with pytest.raises(ValueError, match="the checkpoint does not fit the config: ") as refused:
        resuming.check_fits(RECORD, config)
    message = str(refused.value)
    assert "model.encoder_dim is 32 in the checkpoint, 64 in the config" in message
    assert "model.skip_layers is [1, 3] in the checkpoint, [2, 3] in the config" in message
    assert "execution.scan_encoders is False in the checkpoint, True in the config" in message
    assert message.count("in the checkpoint") == 3


def test_every_field_of_the_model_must_stay():
    for field in CONFIG["model"]:
        with pytest.raises(ValueError, match=field):
            resuming.check_fits(RECORD, changed(**{f"model__{field}": "other"}))


def test_execution_settings_may_change_unless_they_change_the_parameter_arrays():
    for field in CONFIG["execution"]:
        config = changed(**{f"execution__{field}": "other"})
        if f"execution.{field}" == resuming.STACKED:
            with pytest.raises(ValueError, match=field):
                resuming.check_fits(RECORD, config)
        else:
            resuming.check_fits(RECORD, config)


def test_another_optimiser_is_refused():
    config = changed(optimizer__kind="lamb", optimizer__base_rate=2e-3)
    with pytest.raises(ValueError, match=r"optimizer\.kind is 'adamw' in the checkpoint, 'lamb'") as refused:
        resuming.check_fits(RECORD, config)
    assert "base_rate" not in str(refused.value)


def test_a_checkpoint_without_a_recorded_optimiser_is_of_adamw():
    record = copy.deepcopy(RECORD)
    del record["config"]["optimizer"]["kind"]
    resuming.check_fits(record, CONFIG)
    assert resuming.changes(record, CONFIG) == []
    with pytest.raises(ValueError, match=r"optimizer\.kind is 'adamw' in the checkpoint, 'lamb'"):
        resuming.check_fits(record, changed(optimizer__kind="lamb"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 4}, "seed is 3 in the checkpoint, 4 in the config"),
        ({"batch": 8}, "batch is 16 in the checkpoint, 8 in the config"),
        ({"data__stride": 8}, "data.stride is 4 in the checkpoint, 8 in the config"),
        ({"data__weights": (1.0, 2.0)}, "data.weights is"),
        ({"data__temperature": 2.0}, "data.temperature is 1.0"),
        ({"data__temperature": "inf"}, "data.temperature is 1.0 in the checkpoint, 'inf' in the config"),
        ({"data__share": 0.5}, "data.share is 1.0"),
        ({"data__shuffle_window": 8}, "data.shuffle_window is 0"),
    ],
)
def test_other_batches_are_refused_unless_allowed(settings, message):
    config = changed(**settings)
    resuming.check_fits(RECORD, config)
    with pytest.raises(ValueError, match=message) as refused:
        resuming.check_same_batches(RECORD, config, DATA)
    assert "--allow_changes" in str(refused.value)
    resuming.check_same_batches(RECORD, config, DATA, allow=True)


@pytest.mark.parametrize("data", [{"a": "0f0f", "b": "2222"}, {"b": "1e1e", "a": "0f0f"}, {"a": "0f0f"}])
def test_other_data_or_another_order_of_the_data_is_refused(data):
    now = ", ".join(data.values())
    with pytest.raises(ValueError, match=f"the data are 0f0f, 1e1e in the checkpoint, {now} now"):
        resuming.check_same_batches(RECORD, CONFIG, data)


def test_data_may_move_to_another_directory():
    config = changed(data__sets=("/mnt/a", "/mnt/b"))
    resuming.check_same_batches(RECORD, config, {"/mnt/a": "0f0f", "/mnt/b": "1e1e"})


def test_other_changes_are_listed():
    config = changed(epochs=200, data__threads=8, execution__dtype="bfloat16", run_name="b")
    del config["data"]["shuffle_window"]
    resuming.check_fits(RECORD, config)
    assert sorted(resuming.changes(RECORD, config)) == [
        "data.shuffle_window is 0 in the checkpoint, absent in the config",
        "data.threads is 2 in the checkpoint, 8 in the config",
        "epochs is 100 in the checkpoint, 200 in the config",
        "execution.dtype is 'float32' in the checkpoint, 'bfloat16' in the config",
        "run_name is absent in the checkpoint, 'b' in the config",
    ]


def test_every_compared_setting_exists_in_a_kind_of_run():
    kinds = [set(run_config.SCHEMA.entries), set(finetune.SCHEMA.entries)]
    assert {resuming.STACKED, resuming.KIND} <= kinds[0] & kinds[1]
    assert set(resuming.FINETUNING) <= kinds[1] - kinds[0]
    assert set(resuming.FINETUNING_BATCHES) <= kinds[1] - kinds[0]
    assert set(resuming.BATCHES) <= kinds[0]


TUNED = {
    "data": {"protocol": "crema_d", "fold": 1, "selection": "honest", "labels_share": 1.0},
    "initial": {"weights": "runs/b", "step": 100, "best": False},
    "finetune": {"modality": "audio-visual", "feature_fusion": True, "drop_path": 0.1},
    "tuning": {"mode": "full", "modality_dropout": 0.0},
}
TUNED_RECORD = {"config": TUNED, "data": {"a": "0f0f"}}


def tuned(name, value):
    section, _, key = name.partition(".")
    return {**TUNED, section: {**TUNED[section], key: value}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data.protocol", "crema_d_4"),
        ("data.fold", 2),
        ("initial.weights", "runs/s"),
        ("initial.step", 200),
        ("finetune.modality", "video"),
        ("finetune.feature_fusion", False),
        ("tuning.mode", "linear"),
    ],
)
def test_a_fine_tuning_run_of_another_kind_is_refused(name, value):
    with pytest.raises(ValueError, match=f"the checkpoint does not fit the config: {name} is"):
        resuming.check_fits(TUNED_RECORD, tuned(name, value))


@pytest.mark.parametrize(("name", "value"), [("data.selection", "published"), ("data.labels_share", 0.5)])
def test_other_training_clips_are_refused_unless_allowed(name, value):
    resuming.check_fits(TUNED_RECORD, tuned(name, value))
    with pytest.raises(ValueError, match=f"other batches: {name} is"):
        resuming.check_same_batches(TUNED_RECORD, tuned(name, value), {"a": "0f0f"})
    resuming.check_same_batches(TUNED_RECORD, tuned(name, value), {"a": "0f0f"}, allow=True)


def test_the_recipe_of_a_fine_tuning_run_may_change():
    config = tuned("finetune.drop_path", 0.0)
    resuming.check_fits(TUNED_RECORD, config)
    resuming.check_same_batches(TUNED_RECORD, config, {"a": "0f0f"})
    assert resuming.changes(TUNED_RECORD, config) == [
        "finetune.drop_path is 0.1 in the checkpoint, 0.0 in the config"
    ]


def test_pre_training_and_fine_tuning_do_not_resume_each_other():
    with pytest.raises(ValueError, match=r"data\.protocol is absent in the checkpoint"):
        resuming.check_fits(RECORD, {**CONFIG, "data": {**CONFIG["data"], "protocol": "crema_d"}})
    with pytest.raises(ValueError, match=r"data\.protocol is 'crema_d' in the checkpoint, absent"):
        resuming.check_fits(TUNED_RECORD, CONFIG)
