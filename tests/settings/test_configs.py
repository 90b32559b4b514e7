"""The recipes: each is a valid run, and `pretrain` and `finetune` are the published ones."""

import dataclasses

import pytest

from configs import demo, finetune, pretrain
from data_pipeline.corpora.protocols import PROTOCOLS
from hicmae_jax.model import sizes
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig, MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.finetune import FinetunePreprocessConfig
from hicmae_jax.preprocessing.mixing import MixingConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig
from hicmae_jax.settings import finetune as finetune_settings
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.training.optimizer import OptimizerConfig
from hicmae_jax.training.schedules import warmup_cosine
from launch.demo import emotions
from tests.support.paths import ROOT


def resolved(config, platform="cpu"):
    config.data.sets, config.evaluation.sets = ("data/dev",), ("data/test",)
    return run_config.from_config_dict(config, platform)


def test_the_recipe_for_b_is_the_published_one():
    run = resolved(pretrain.get_config("B"), "tpu")
    assert run.model == ModelConfig()
    assert run.execution == ExecutionConfig(
        dtype="bfloat16", attention="pallas", scan_encoders=True, remat_encoder="full"
    )
    assert run.masks == MaskConfig()
    assert run.loss == LossConfig()
    assert run.preprocess == PreprocessConfig(model=run.model)
    assert run.optimizer_config(6822) == OptimizerConfig(steps_per_epoch=6822)
    assert (run.batch, run.accumulate, run.data.frames, run.data.stride) == (160, 1, 16, 4)
    assert run.total_steps(6822) == 682_200


def test_the_recipes_rates_are_the_published_ones():
    rate = resolved(pretrain.get_config("B")).optimizer_config(6822).schedule()
    peak, minimum = 3e-4 * 160 / 256, 1e-5 * 160 / 256
    published = warmup_cosine(peak, minimum, 5 * 6822, 100 * 6822)
    steps = (0, 1, 5 * 6822 - 1, 5 * 6822, 300_000, 682_199)
    assert [float(rate(step)) for step in steps] == [float(published(step)) for step in steps]
    assert float(rate(5 * 6822)) == pytest.approx(peak)


@pytest.mark.parametrize("size", sizes.SIZES)
def test_every_size_has_the_recipe(size):
    run = resolved(pretrain.get_config(size))
    assert run.model == sizes.model_config(size)
    assert run.batch == 160


def test_runlocal_changes_batch_length_and_intervals_alone():
    whole, local = (resolved(pretrain.get_config(argument)) for argument in ("S", "S,runlocal"))
    assert local.model == whole.model
    assert local.preprocess == whole.preprocess
    assert dataclasses.replace(local.loss, negatives=whole.loss.negatives) == whole.loss
    assert local.batch < whole.batch
    assert local.total_steps(6822) < 100
    assert local.checkpoint.every < local.total_steps(6822)


@pytest.mark.parametrize("argument", ["B,runlocl", "B,", "B,runlocal,fast"])
def test_another_argument_is_refused(argument):
    with pytest.raises(ValueError, match=r"is not <size>\[,runlocal\]"):
        pretrain.get_config(argument)


def test_the_demo_is_a_small_run_over_as_much_time_as_the_recipe():
    run, recipe = resolved(demo.get_config()), resolved(pretrain.get_config("B"))
    assert run.data.frames * run.data.stride == recipe.data.frames * recipe.data.stride
    assert run.data.stride % 4 == 0  # the stored phases
    assert run.model.audio_frames == recipe.model.audio_frames
    assert run.execution.dtype == "float32"
    assert (run.masks.video_kind, run.masks.audio_kind) == (recipe.masks.video_kind, recipe.masks.audio_kind)


def test_the_demo_fine_tunes_the_model_that_it_has_pre_trained():
    tuned = demo.get_config("finetune")
    tuned.data.sets = ("data/labelled",)
    run = finetune_settings.from_config_dict(tuned, "cpu")
    assert run.model == resolved(demo.get_config("pretrain")).model
    assert run.data.protocol == "made_up"
    assert run.model.image_size == emotions.SIDE
    with pytest.raises(ValueError, match="'evaluate' is not pretrain or finetune"):
        demo.get_config("evaluate")


# --- Fine-tuning --------------------------------------------------------------------------------------------


def finetuned(argument):
    config = finetune.get_config(argument)
    config.data.sets = ("data/labelled",)
    return finetune_settings.from_config_dict(config, "cpu")


def test_the_recipe_for_crema_d_is_the_published_one():
    run = finetuned("crema_d")
    assert run.model == ModelConfig()
    assert run.for_outputs(6) == FinetuneConfig(outputs=6)
    assert run.preprocess == FinetunePreprocessConfig(model=run.model)
    assert run.mixing == MixingConfig()
    assert (run.batch, run.data.protocol, run.data.randaugment) == (56, "crema_d", True)
    assert run.total_steps(106) == 5300
    optimizer = run.optimizer_config(106)
    assert (optimizer.betas, optimizer.weight_decay, optimizer.layer_decay) == ((0.9, 0.999), 0.05, 0.75)
    rate = optimizer.schedule()
    assert float(rate(0)) == 0
    assert float(rate(5 * 106)) == pytest.approx(1e-3 * 56 / 256)
    assert float(rate(5299)) == pytest.approx(1e-6 * 56 / 256, rel=0.01)


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_every_protocol_has_a_recipe(name):
    run, published = finetuned(name), PROTOCOLS[name]
    assert (run.batch, run.total_steps(1)) == (published.batch, published.epochs)
    assert run.loss.kind_for(published.regression) == ("mse" if published.regression else "cross_entropy")
    mixed = (run.mixing.mixup, run.mixing.cutmix, run.mixing.smoothing)
    assert mixed == ((0, 0, 0) if published.regression else (0.8, 1, 0.1))


def test_runlocal_shrinks_a_fine_tuning_run():
    whole, local = finetuned("ravdess"), finetuned("ravdess,runlocal")
    assert local.model.encoder_dim < whole.model.encoder_dim
    assert local.total_steps(100) < whole.total_steps(100)
    assert local.mixing == whole.mixing


@pytest.mark.parametrize(
    ("argument", "line"),
    [("crema", "'crema' is not a protocol: choose one of crema_d"), ("crema_d,fast", "is not <protocol>")],
)
def test_another_argument_of_fine_tuning_is_refused(argument, line):
    with pytest.raises(ValueError, match=line):
        finetune.get_config(argument)


def test_every_file_has_a_test():
    assert {path.stem for path in (ROOT / "configs").glob("*.py")} == {
        "__init__",
        "pretrain",
        "finetune",
        "demo",
        "evidence",
        "ablations",  # tests/settings/test_ablations.py
        "scaling",  # tests/benchmarks/test_scaling_study.py
    }
