"""A checkpoint's config is understood wherever it was made, and by versions that have more settings.

`goldens/recorded_config.json` is the record of `configs/pretrain.py:B` on a GPU, from before there were the
settings of `recorded.SINCE`.
"""

import json

import pytest

from configs import pretrain as recipe
from hicmae_jax.runs import resuming
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.settings import recorded as recorded_config
from hicmae_jax.settings import schema
from tests.support.paths import GOLDENS

FIRST = json.loads((GOLDENS / "recorded_config.json").read_text())


def of_today(platform="gpu"):
    """The same run in a configuration file of today."""
    settings = recipe.get_config("B")
    settings.data.sets, settings.data.threads = ("data/dev",), 2
    return run_config.from_config_dict(settings, platform)


def test_a_setting_that_came_later_is_what_was_done_before():
    """Whoever adds a setting says in `SINCE` what it was without."""
    assert recorded_config.load(FIRST, "gpu") == of_today()
    given = {recorded_config.RENAMED.get(name, name) for name in schema.flatten(FIRST)}
    assert set(recorded_config.SINCE) == set(run_config.settings()) - given


def test_such_a_run_goes_on_without_a_word():
    record, config = {"config": FIRST, "data": {"data/dev": "0f0f"}}, of_today().to_dict()
    resuming.check_fits(record, config)
    resuming.check_same_batches(record, config, {"data/dev": "0f0f"})
    assert resuming.changes(record, config) == []


def test_settings_that_are_recorded_stay():
    settings = schema.flatten(of_today().to_dict()) | {
        "optimizer.kind": "lamb",
        "optimizer.clip": 2.0,
    }
    run = recorded_config.load(settings, "gpu")
    assert (run.optimizer.kind, run.optimizer.clip) == ("lamb", 2.0)


@pytest.mark.parametrize(("platform", "attention"), [("cpu", "xla"), ("gpu", "xla"), ("tpu", "pallas")])
def test_attention_is_that_of_the_platform_and_nothing_else(platform, attention):
    record = of_today("tpu").to_dict()
    assert record["execution"]["attention"] == "pallas"
    run = recorded_config.load(record, platform)
    assert run.execution.attention == attention
    assert schema.flatten(run.to_dict()) | {"execution.attention": "pallas"} == schema.flatten(record)


def test_a_setting_of_a_later_version_is_named():
    with pytest.raises(ValueError, match=r"there is no setting model\.colour"):
        recorded_config.load(FIRST | {"model": FIRST["model"] | {"colour": 1}}, "cpu")
