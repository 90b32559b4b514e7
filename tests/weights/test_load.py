"""`load` gives the same parameters and configuration from every form that `save` or a run writes."""

import dataclasses

import jax
import numpy as np
import pytest

from hicmae_jax.model import sizes
from hicmae_jax.weights import files, torch_names
from hicmae_jax.weights.infer import infer_config
from hicmae_jax.weights.load import load, save
from tests.support import finetune_fixtures, published_names, run_fixtures

ENDINGS = ("safetensors", "pth")


@pytest.fixture(scope="module")
def config():
    return run_fixtures.config("unused", scan_encoders=True, fusion_flow="raw-input", frames=6)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return run_fixtures.write_run(tmp_path_factory.mktemp("run"), config, steps=(3, 5))


def assert_is_step(loaded, config, step):
    expected = torch_names.unstack_layers(run_fixtures.parameters(config, step))
    jax.tree.map(np.testing.assert_array_equal, loaded.params, jax.device_get(expected))
    for name in ("fusion_flow", "frames", "encoder_heads", "skip_layers"):
        assert getattr(loaded.config, name) == getattr(config.model, name)


def test_a_run_and_its_checkpoints(run, config):
    assert_is_step(load(run), config, 5)
    assert_is_step(load(run, step=3), config, 3)
    assert_is_step(load(run / "checkpoints"), config, 5)
    assert_is_step(load(run / "checkpoints" / "3"), config, 3)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_saved_file(run, config, tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    saved = load(run)
    save(*saved, path)
    again = load(path)
    assert_is_step(again, config, 5)
    assert again.config == saved.config
    with pytest.raises(ValueError, match="the file holds its own configuration: leave out frames"):
        load(path, frames=16)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_without_configuration(run, config, tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    saved = load(run)
    files.write(path, torch_names.state_dict(saved.params))
    with pytest.raises(ValueError, match=rf"{path.name}: no known size has a width of 32: give encoder"):
        load(path)
    geometry = ("image_size", "frames", "audio_frames", "audio_bins", "fusion_flow", "skip_layers")
    heads = ("encoder_heads", "decoder_heads")
    fields = {name: getattr(saved.config, name) for name in geometry + heads}
    again = load(path, **fields)
    assert_is_step(again, config, 5)
    assert again.config == saved.config


@pytest.mark.parametrize("size", sizes.SIZES)
def test_every_size_is_known_by_its_shapes(size):
    config = sizes.model_config(size)
    crossed = [False, True, True, True]
    shapes = published_names.pretrain(
        config.encoder_dim, config.encoder_depth, 2, config.decoder_dim, crossed
    )
    assert infer_config(shapes) == config


def test_skips_are_known_by_the_decoders_blocks():
    plain = infer_config(published_names.pretrain(512, 10, 1, 384, [False] * 3))
    assert not plain.skip_connections
    assert (plain.decoder_depth, plain.fusion_depth) == (3, 1)
    two = published_names.pretrain(512, 10, 2, 384, [False, True, True])
    with pytest.raises(ValueError, match=r"the decoder's 2 skips: give skip_layers"):
        infer_config(two)
    assert infer_config(two, skip_layers=(5, 10)).skip_layers == (5, 10)


def test_a_finetuned_run(tmp_path):
    labelled = finetune_fixtures.write_labelled_set(tmp_path / "labelled", n_clips=12)
    settings = finetune_fixtures.config(labelled)
    loaded = load(finetune_fixtures.write_run(tmp_path / "fold", settings))
    expected = finetune_fixtures.parameters(settings, 3)
    np.testing.assert_array_equal(loaded.params["head"]["kernel"], expected["head"]["kernel"])
    assert loaded[1:] == (settings.model, settings.for_outputs(6), finetune_fixtures.CLASSES)


def test_wrong_sources_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="a run records its own configuration: leave out encoder_heads"):
        load(run, encoder_heads=2)
    with pytest.raises(ValueError, match="is a file, which has no steps: leave out step=3"):
        load(tmp_path / "a.pth", step=3)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(tmp_path / "a.safetensors")
    files.write(tmp_path / "a.safetensors", {"head.weight": np.zeros((3, 4), np.float32)})
    with pytest.raises(ValueError, match=r"a\.safetensors: not the weights of a HiCMAE model"):
        load(tmp_path / "a.safetensors")
    files.write(tmp_path / "b.safetensors", {"x": np.zeros(1, np.float32)}, {"encoder_size": 3})
    with pytest.raises(ValueError, match=r"b\.safetensors: .*unexpected keyword argument 'encoder_size'"):
        load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", [np.int8, np.int64, np.bool_])
def test_whole_numbers_are_no_weights(run, tmp_path, ending, kind):
    path = tmp_path / f"weights.{ending}"
    saved = load(run)
    state = torch_names.state_dict(saved.params)
    state["encoder.norm.weight"] = state["encoder.norm.weight"].astype(kind)
    files.write(path, state, dataclasses.asdict(saved.config))
    with pytest.raises(
        ValueError, match=rf"{path.name}: encoder\.norm\.weight is of type \w+, which is no weight"
    ):
        load(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_half_precision_becomes_float32(run, tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    saved = load(run)
    halves = {name: value.astype(np.float16) for name, value in torch_names.state_dict(saved.params).items()}
    files.write(path, halves, dataclasses.asdict(saved.config))
    loaded = load(path).params
    jax.tree.map(
        lambda one, other: np.testing.assert_array_equal(one, other.astype(np.float16).astype(np.float32)),
        loaded,
        saved.params,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
