"""Weights to and from PyTorch: published names, bit-identical round trips, complete error lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.weights import files as weight_files
from hicmae_jax.weights import torch_model, torch_names
from tests.support import published_names, tiny_model
from tests.support.golden_torch import config_of

NAMES = published_names.pretrain(32, 3, 1, 24, [False, True, True])


def template(stacked=False, **overrides):
    config = tiny_model.model_config(**overrides)
    model = HiCMAE(config, ExecutionConfig(scan_encoders=stacked))
    return jax.eval_shape(model.init, jax.random.key(0), *tiny_model.inputs(config))["params"]


def finetune_template(modality="audio-visual", outputs=5, stacked=False, **overrides):
    config = tiny_model.model_config(**overrides)
    finetune = FinetuneConfig(outputs=outputs, modality=modality)
    model = HiCMAEFinetune(config, finetune, ExecutionConfig(scan_encoders=stacked))
    return jax.eval_shape(model.init, jax.random.key(0), *tiny_model.inputs(config)[:2])["params"]


def random_tree(like, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), jnp.float32), like)


def random_state(names=NAMES, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in names.items()}


def assert_identical(actual, expected):
    actual, expected = flatten_dict(actual), flatten_dict(expected)
    assert actual.keys() == expected.keys()
    for path, value in actual.items():
        assert np.asarray(value).dtype == np.asarray(expected[path]).dtype, path
        np.testing.assert_array_equal(value, expected[path], err_msg="/".join(path))


# --- Names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stacked", [False, True])
def test_pretrain_names_and_shapes_are_the_published_ones(stacked):
    assert torch_names.shapes(template(stacked)) == NAMES
    state = torch_names.state_dict(random_tree(template(stacked)))
    assert {name: value.shape for name, value in state.items()} == NAMES


def test_names_without_skips_and_without_fusion():
    names = published_names.pretrain(32, 3, 0, 24, [False, False, False])
    assert torch_names.shapes(template(skip_connections=False, fusion_depth=0)) == names


@pytest.mark.parametrize("stacked", [False, True])
def test_finetune_names_and_shapes_are_the_published_ones(stacked):
    like = finetune_template(stacked=stacked)
    assert torch_names.shapes(like) == published_names.finetune(32, 3, 1, 5)
    for modality in ("video", "audio"):
        alone = finetune_template(modality, stacked=stacked)
        assert torch_names.shapes(alone) == published_names.finetune_alone(modality, 32, 3, 5)


# --- Round trips --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_jax_to_file_to_pytorch_to_file_to_jax_is_bit_identical(tmp_path, stacked, ending):
    params = random_tree(template(stacked))
    there, back = tmp_path / f"there.{ending}", tmp_path / "back.pth"
    weight_files.write(there, torch_names.state_dict(params))
    model = torch_model.PretrainModel(config_of(tiny_model.model_config()))
    if ending == "pth":
        model.load_state_dict(torch.load(there, weights_only=True)["model"])
    else:
        state = weight_files.read(there)
        model.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    torch.save({"model": model.state_dict()}, back)
    assert_identical(torch_names.parameters(weight_files.read(back), template(stacked)), params)


@pytest.mark.parametrize("modality", torch_model.MODALITIES)
def test_finetuned_round_trip_is_bit_identical(modality):
    like = finetune_template(modality)
    params = random_tree(like)
    model = torch_model.FinetuneModel(config_of(tiny_model.model_config()), 5, modality)
    state = torch_names.state_dict(params)
    model.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    back = {name: value.numpy() for name, value in model.state_dict().items()}
    assert_identical(torch_names.parameters(back, like), params)


def test_stacked_and_per_layer_trees_convert_to_each_other():
    params = random_tree(template())
    stacked = torch_names.stack_layers(params)
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, template(stacked=True))
    assert_identical(torch_names.unstack_layers(stacked), params)
    state, of_stacked = torch_names.state_dict(params), torch_names.state_dict(stacked)
    assert state.keys() == of_stacked.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(value, of_stacked[name])


def test_stacking_twice_is_refused():
    params = random_tree(template())
    with pytest.raises(ValueError, match="per layer already"):
        torch_names.unstack_layers(params)
    with pytest.raises(ValueError, match="stacked already"):
        torch_names.stack_layers(torch_names.stack_layers(params))


def test_half_precision_weights_become_float32_as_in_the_template():
    state = {name: value.astype(np.float16) for name, value in random_state().items()}
    params = torch_names.parameters(state, template())
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(params["mask_token"], state["mask_token"].astype(np.float32))


def test_another_patch_size():
    like = template(patch=8, image_size=16, audio_frames=16, audio_bins=16)
    names = torch_names.shapes(like, patch=8)
    assert names["encoder.patch_embed.proj.weight"] == (32, 3, 2, 8, 8)
    state = random_state(names)
    again = torch_names.state_dict(torch_names.parameters(state, like, patch=8), patch=8)
    for name, value in state.items():
        np.testing.assert_array_equal(again[name], value)
    with pytest.raises(ValueError, match="takes 384 values, which patches of side 16 do not have"):
        torch_names.shapes(like)


# --- Errors -------------------------------------------------------------------------------------------------


def test_every_missing_extra_and_misshapen_name_is_listed():
    state = random_state()
    for name in ("mask_token", "encoder.norm.bias"):
        del state[name]
    state |= {"pos_embed": np.zeros(3), "decoder.blocks.3.norm1.bias": np.zeros(24)}
    state["decoder.head.weight"] = np.zeros((24, 1536))
    state["encoder.patch_embed.proj.weight"] = np.zeros((32, 3, 16, 16, 2))
    with pytest.raises(ValueError, match="weights do not fit the model") as error:
        torch_names.parameters(state, template())
    assert "2 missing: " in str(error.value)
    assert "2 extra: pos_embed, decoder.blocks.3.norm1.bias" in str(error.value)
    assert "2 wrong shape: " in str(error.value)
    for listed in (
        "mask_token",
        "encoder.norm.bias",
        "decoder.head.weight (is (24, 1536), should be (1536, 24))",
        "encoder.patch_embed.proj.weight (is (32, 3, 16, 16, 2), should be (32, 3, 2, 16, 16))",
    ):
        assert listed in str(error.value)
    assert "\n" not in str(error.value)


# --- Fine-tuning from a pre-training checkpoint -------------------------------------------------------------


def encoder_names(*stacks):
    return {name for name in NAMES if name.split(".")[0] in stacks}


def test_finetuning_takes_encoders_and_fusion_and_leaves_the_rest():
    state, params = random_state(), random_tree(finetune_template(), seed=1)
    filled = torch_names.fill_finetune(state, params)
    taken = encoder_names("encoder", "encoder_audio", "encoder_fusion")
    fresh = set(published_names.finetune(32, 3, 1, 5)) - taken
    assert (set(filled.taken), set(filled.left), set(filled.fresh)) == (taken, set(NAMES) - taken, fresh)
    assert "mask_token" in filled.left
    assert "head.weight" in filled.fresh
    result, initial = torch_names.state_dict(filled.params), torch_names.state_dict(params)
    for name, value in result.items():
        np.testing.assert_array_equal(value, state[name] if name in taken else initial[name], err_msg=name)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(("modality", "stack"), [("video", "encoder"), ("audio", "encoder_audio")])
def test_a_unimodal_model_takes_its_own_encoder(modality, stack, stacked):
    params = random_tree(finetune_template(modality, stacked=stacked), seed=1)
    filled = torch_names.fill_finetune(random_state(), params)
    assert set(filled.taken) == encoder_names(stack)
    assert set(filled.left) == set(NAMES) - encoder_names(stack)
    assert set(filled.fresh) == {
        f"{modality}_layer_weights",
        *("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"),
    }


def test_a_finetuned_checkpoints_head_is_not_taken():
    state = random_state(published_names.finetune(32, 3, 1, 5))
    filled = torch_names.fill_finetune(state, random_tree(finetune_template(), seed=1))
    assert {"head.weight", "fc_norm.bias", "video_layer_weights"} <= set(filled.left) & set(filled.fresh)


def test_another_architecture_is_refused():
    params = random_tree(finetune_template(encoder_depth=2, skip_layers=(1, 2)), seed=1)
    with pytest.raises(ValueError, match=r"26 extra: encoder\.blocks\.2\.norm1\.weight"):
        torch_names.fill_finetune(random_state(), params)
    params = random_tree(finetune_template(encoder_depth=4, skip_layers=(1, 4)), seed=1)
    with pytest.raises(ValueError, match=r"26 missing: .*encoder_audio\.blocks\.3\.mlp\.fc2\.bias"):
        torch_names.fill_finetune(random_state(), params)
    params = random_tree(finetune_template(encoder_dim=64), seed=1)
    with pytest.raises(
        ValueError, match=r"wrong shape: .*encoder\.norm\.weight \(is \(32,\), should be \(64,\)"
    ):
        torch_names.fill_finetune(random_state(), params)
