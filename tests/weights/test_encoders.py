"""Encoders for fine-tuning come from every form of trained weights; wrong ones are refused in one line."""

import dataclasses

import jax
import numpy as np
import pytest

from hicmae_jax.model import shapes, sizes
from hicmae_jax.model.config import FinetuneConfig
from hicmae_jax.model.initialise import finetune_initialiser
from hicmae_jax.weights import files, torch_names
from hicmae_jax.weights.encoders import Encoders, fill, load_encoders
from hicmae_jax.weights.infer import infer_encoder_config
from hicmae_jax.weights.load import load
from tests.support import finetune_fixtures, published_names, run_fixtures, tiny_model


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run of pre-training with stacked encoders, and its settings."""
    config = run_fixtures.config("unused", scan_encoders=True)
    return run_fixtures.write_run(tmp_path_factory.mktemp("run"), config, steps=(3, 5)), config


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run of a fold, and its settings."""
    root = tmp_path_factory.mktemp("tuned")
    data = finetune_fixtures.write_labelled_set(root / "set", 12, speakers=4)
    config = finetune_fixtures.config(data)
    return finetune_fixtures.write_run(root / "folds" / "fold-1", config, steps=(3, 5), best=3), config


def assert_same(state, params):
    expected = torch_names.state_dict(params)
    assert set(state) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value)


def of_step(config, step):
    return torch_names.unstack_layers(run_fixtures.parameters(config, step))


def test_a_run_of_pre_training_and_its_checkpoints(pretrained):
    run, config = pretrained
    for source, step, expected in ((run, None, 5), (run, 3, 3), (run / "checkpoints" / "3", None, 3)):
        found = load_encoders(source, step)
        assert_same(found.state, of_step(config, expected))
        assert (found.config, found.step, found.tuned) == (config.model, expected, {})
        assert f"step {expected}" in found.origin


def test_a_run_of_fine_tuning_and_its_best_checkpoint(tuned):
    run, config = tuned
    for best, step in ((False, 5), (True, 3)):
        found = load_encoders(run, best=best)
        assert_same(found.state, finetune_fixtures.parameters(config, step))
        assert (found.config, found.step) == (config.model, step)
        assert (found.tuned["data.protocol"], found.tuned["data.fold"]) == ("made_up", 1)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_file_with_its_configuration(pretrained, tmp_path, ending):
    _, config = pretrained
    path = tmp_path / f"weights.{ending}"
    state = torch_names.state_dict(of_step(config, 5))
    files.write(path, state, dataclasses.asdict(config.model))
    found = load_encoders(path)
    assert_same(found.state, of_step(config, 5))
    assert (found.config, found.step) == (config.model, None)
    assert "SHA-256" in found.origin


@pytest.mark.parametrize("size", ["T", "S", "B"])
def test_published_names_of_both_kinds_tell_the_model(size):
    model = sizes.model_config(size)
    width, depth, fusion = model.encoder_dim, model.encoder_depth, model.fusion_depth
    whole = published_names.pretrain(width, depth, fusion, model.decoder_dim, [False, True, True, True])
    head = published_names.finetune(width, depth, fusion, 11)
    assert infer_encoder_config(whole) == infer_encoder_config(head) == model
    audio = {name: shape for name, shape in head.items() if name.startswith("encoder_audio.")}
    found = infer_encoder_config(audio)
    assert (found.encoder_dim, found.encoder_depth, found.encoder_heads) == (
        width,
        depth,
        model.encoder_heads,
    )


def test_a_published_fine_tuned_file_gives_its_encoders_and_not_its_head(tmp_path):
    model = sizes.model_config("mu")
    names = published_names.finetune(model.encoder_dim, model.encoder_depth, model.fusion_depth, 11)
    rng = np.random.default_rng(0)
    state = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in names.items()}
    files.write(tmp_path / "a.pth", state)
    found = load_encoders(tmp_path / "a.pth")
    assert {value.dtype for value in found.state.values()} == {np.dtype(np.float32)}
    initialise = finetune_initialiser(found.config, FinetuneConfig(outputs=6))
    params = tiny_model.random_like(jax.eval_shape(initialise, jax.random.key(0)))
    filled = fill(found, jax.device_get(params), found.config)
    np.testing.assert_array_equal(filled.params["head"]["kernel"], params["head"]["kernel"])
    np.testing.assert_array_equal(
        filled.params["encoder"]["norm"]["scale"], state["encoder.norm.weight"].astype(np.float32)
    )
    assert {name.split(".")[0] for name in filled.fresh} == {
        *("fc_norm", "head", "video_layer_weights", "audio_layer_weights")
    }
    with pytest.raises(ValueError, match=r"a\.pth: these are weights of a fine-tuning model"):
        load(tmp_path / "a.pth")


def test_weights_without_a_modality_are_refused_in_one_line(pretrained):
    found = load_encoders(pretrained[0])
    audio = {name: value for name, value in found.state.items() if name.startswith("encoder_audio.")}
    initialise = finetune_initialiser(found.config, FinetuneConfig(outputs=6))
    params = tiny_model.random_like(jax.eval_shape(initialise, jax.random.key(0)))
    with pytest.raises(
        ValueError, match=r"audio\.pth: these weights have no encoder, encoder_fusion: choose"
    ):
        fill(Encoders(audio, found.config, "audio.pth"), jax.device_get(params), found.config)


def test_weights_of_another_geometry_are_refused(pretrained):
    found = load_encoders(pretrained[0])
    other = dataclasses.replace(found.config, encoder_depth=2, skip_layers=(1, 2))
    abstract = jax.eval_shape(finetune_initialiser(other, FinetuneConfig(outputs=6)), jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
    with pytest.raises(
        ValueError, match=r"step 5: weights do not fit the model; \d+ extra: encoder\.blocks\.2"
    ):
        fill(found, params, other)


def test_wrong_sources_are_one_line(pretrained, tuned, tmp_path):
    mistakes = [
        (FileNotFoundError, (tmp_path / "none",), {}, "none"),
        (FileNotFoundError, (tmp_path / "none.pth",), {}, r"none\.pth: no such file"),
        (FileNotFoundError, (tuned[0].parent,), {}, "folds"),
        (
            FileNotFoundError,
            (pretrained[0],),
            {"best": True},
            "no checkpoint has a score; the last one is of",
        ),
        (FileNotFoundError, (pretrained[0], 4), {}, "4"),
        (ValueError, (tmp_path / "a.pth", 4), {}, r"a\.pth is a file, which has no steps"),
    ]
    for kind, arguments, choices, message in mistakes:
        with pytest.raises(kind, match=message) as raised:
            load_encoders(*arguments, **choices)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float32(np.nan), "has values that are not finite"),
        (np.int8(1), "is of type int8, which is no weight"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(pretrained, tmp_path, value, message):
    _, config = pretrained
    state = dict(torch_names.state_dict(of_step(config, 5)))
    state["encoder.norm.weight"] = np.full_like(state["encoder.norm.weight"], value, value.dtype)
    files.write(tmp_path / "a.safetensors", state, dataclasses.asdict(config.model))
    with pytest.raises(ValueError, match=rf"a\.safetensors: encoder\.norm\.weight {message}"):
        load_encoders(tmp_path / "a.safetensors")


def test_the_size_of_a_filled_model_is_known_before_it_is_made(pretrained):
    model = pretrained[1].model
    finetune = FinetuneConfig(outputs=6)
    tree = jax.eval_shape(finetune_initialiser(model, finetune), jax.random.key(0))
    counted = sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert shapes.finetune_parameters(model, finetune) == counted
