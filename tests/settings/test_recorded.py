"""Records of older versions and of other devices are read under the settings of today.

`goldens/recorded_config.json` is the record of `configs/pretrain.py:B` on a GPU, from before there were the
settings of `recorded.SINCE`.
"""

import json

import pytest

from configs import pretrain as recipe
from hicmae_jax.runs import resuming
from hicmae_jax.settings import pretrain, recorded
from hicmae_jax.settings.schema import flatten
from tests.support.paths import GOLDENS

FIRST = json.loads((GOLDENS / "recorded_config.json").read_text())


def of_today(platform="gpu", begun=None):
    """The same run as a recipe of today gives it."""
    config = recipe.get_config("B")
    config.data.sets, config.data.threads = ("data/dev",), 2
    return pretrain.from_config_dict(config, platform, begun)


def test_an_older_record_has_the_settings_of_today():
    assert recorded.load(FIRST, "gpu") == of_today(begun=recorded.completed(FIRST))


def test_every_setting_that_an_older_record_lacks_has_a_value_in_since():
    """Whoever adds a setting adds to `SINCE` what the code did without it."""
    given = {recorded.RENAMED.get(name, name) for name in flatten(FIRST)}
    assert set(recorded.SINCE) == set(pretrain.SCHEMA.entries) - given


def test_a_run_with_an_older_record_goes_on_without_a_change():
    record = {"config": FIRST, "data": {"data/dev": "0f0f"}}
    config = of_today(begun=recorded.completed(FIRST)).to_dict()
    resuming.check_fits(record, config)
    resuming.check_same_batches(record, config, {"data/dev": "0f0f"})
    assert resuming.changes(record, config) == []


def test_pixels_are_those_with_which_the_run_was_begun(tmp_path):
    assert resuming.begun_settings(tmp_path / "new") is None
    assert of_today().preprocess.pixels == "rounded"
    for step, config in ((10, FIRST), (20, of_today().to_dict())):
        checkpoint = tmp_path / "checkpoints" / str(step)
        checkpoint.mkdir(parents=True)
        (checkpoint / "record.json").write_text(json.dumps({"config": config}))
        begun = resuming.begun_settings(tmp_path)
        assert of_today(begun=begun).preprocess.pixels == {10: "float32", 20: "rounded"}[step]
    # A damaged record does not count; it is reported where the run resumes.
    (checkpoint / "record.json").write_text("{")
    assert resuming.begun_settings(tmp_path)["preprocess.pixels"] == "float32"
    config = recipe.get_config("B")
    config.data.sets, config.preprocess.pixels = ("data/dev",), "rounded"
    asked = pretrain.from_config_dict(config, "cpu", recorded.completed(FIRST))
    assert asked.preprocess.pixels == "rounded"


def test_a_value_in_the_record_is_kept():
    settings = flatten(of_today().to_dict()) | {"optimizer.kind": "lamb", "optimizer.clip": 2.0}
    run = recorded.load(settings, "gpu")
    assert (run.optimizer.kind, run.optimizer.clip) == ("lamb", 2.0)


@pytest.mark.parametrize(
    ("platform", "attention"), [("cpu", "xla"), ("gpu", "xla"), ("cuda", "cudnn"), ("tpu", "pallas")]
)
def test_attention_alone_follows_the_platform(platform, attention):
    record = of_today("tpu").to_dict()
    assert record["execution"]["attention"] == "pallas"
    run = recorded.load(record, platform)
    assert run.execution.attention == attention
    assert flatten(run.to_dict()) | {"execution.attention": "pallas"} == flatten(record)


@pytest.mark.parametrize("begun", ["cpu", "plain"])
def test_the_layout_of_the_record_is_that_of_cpus_alone(begun):
    record = flatten(of_today().to_dict()) | {"execution.layout": begun}
    layouts = {platform: recorded.load(record, platform).execution.layout for platform in ("cpu", "tpu")}
    assert layouts == {"cpu": begun, "tpu": "plain"}


def test_a_setting_of_a_later_version_is_named():
    with pytest.raises(ValueError, match=r"there is no setting model\.colour"):
        recorded.load(FIRST | {"model": FIRST["model"] | {"colour": 1}}, "cpu")
