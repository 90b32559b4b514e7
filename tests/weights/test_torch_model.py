"""The PyTorch file: published names, the JAX model's numbers under every switch, initialisation, errors."""

import ast
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hicmae_jax.model.config import FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.weights import torch_model, torch_names
from tests.support import golden_cases, model_switches, published_names, tiny_model
from tests.support.golden_torch import config_of, load_weights

TINY = config_of(tiny_model.model_config())


def tensors(inputs):
    """Convert JAX model inputs to those of the PyTorch model."""
    video, log_mel, *masks = jax.tree.map(lambda x: torch.from_numpy(np.array(x)), inputs)
    return video, log_mel, *((mask.visible.long(), mask.masked.long()) for mask in masks)


def random_inputs(batch=4, seed=0):
    return tensors(tiny_model.inputs(tiny_model.model_config(), batch=batch, seed=seed))


def shapes_of(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


# --- Names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "fusion_depth", "crossed"),
    [
        ({}, 1, [False, True, True]),
        ({"skip_connections": False}, 1, [False, False, False]),
        ({"decoder_depth": 4, "skip_layers": (3,)}, 1, [False, True, False, False]),
        ({"fusion_depth": 0}, 0, [False, True, True]),
    ],
)
def test_pretrain_names_and_shapes_are_the_published_ones(overrides, fusion_depth, crossed):
    model = torch_model.PretrainModel(config_of(tiny_model.model_config(**overrides)))
    assert shapes_of(model) == published_names.pretrain(32, 3, fusion_depth, 24, crossed)


def test_finetune_names_and_shapes_are_the_published_ones():
    assert shapes_of(torch_model.FinetuneModel(TINY, 7)) == published_names.finetune(32, 3, 1, 7)
    for modality in ("video", "audio"):
        model = torch_model.FinetuneModel(TINY, 7, modality)
        assert shapes_of(model) == published_names.finetune_alone(modality, 32, 3, 7)
    plain = set(shapes_of(torch_model.FinetuneModel(TINY, 7, feature_fusion=False)))
    assert plain == set(published_names.finetune(32, 3, 1, 7)) - {
        "video_layer_weights",
        "audio_layer_weights",
    }


def test_published_sizes_have_the_published_parameter_counts():
    with torch.device("meta"):
        pretrain = torch_model.PretrainModel(torch_model.Config())
        finetune = torch_model.FinetuneModel(torch_model.Config(), 11)
    assert round(sum(p.numel() for p in pretrain.parameters()) / 1e6, 1) == 99.6
    assert round(sum(p.numel() for p in finetune.parameters()) / 1e6, 1) == 80.8


def test_the_file_needs_only_torch():
    """Of the packages that it imports, only functions that can do without them import the others."""
    source = Path(torch_model.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source)
    at_once = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    modules = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in at_once
        for alias in node.names
    }
    assert modules - set(sys.stdlib_module_names) == {"torch"}


# --- Agreement with JAX -------------------------------------------------------------------------------------


def jittered_state(model, seed=0):
    """Initial weights with noise, so that no bias, scale or token is 0 or 1."""
    rng = np.random.default_rng(seed)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    noise = {name: 0.05 * rng.standard_normal(value.shape) for name, value in state.items()}
    return {name: (value + noise[name]).astype(np.float32) for name, value in state.items()}


def jax_parameters(state, model, *inputs):
    template = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    return jax.tree.map(jnp.asarray, torch_names.parameters(state, template))


# JAX runs without jit here: the combinations share nearly all operations, so that few compile more than once.
@pytest.mark.parametrize("switches", model_switches.COMBINATIONS, ids="; ".join)
def test_pretraining_agrees_with_jax_under_every_switch(switches):
    config, loss_config, masks = model_switches.configs(*switches)
    inputs = tiny_model.inputs(config, masks)
    model = torch_model.PretrainModel(config_of(config), loss_config.frame_difference)
    state = jittered_state(model)
    load_weights(model, state)
    with torch.no_grad():
        output = model(*tensors(inputs))
        weight, group = loss_config.contrastive_weight, loss_config.group_size
        terms = torch_model.pretrain_loss(output, loss_config.temperature, weight, group)

    twin = HiCMAE(config)
    of_jax = twin.apply({"params": jax_parameters(state, twin, *inputs)}, *inputs)
    goals = objective.masked_targets(twin, inputs, loss_config.frame_difference)
    jax_terms = objective.loss_terms(of_jax, *goals, loss_config)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(output.video, of_jax.video, **close)
    np.testing.assert_allclose(output.audio, of_jax.audio, **close)
    assert terms.keys() == jax_terms.keys()
    for term in terms:
        np.testing.assert_allclose(terms[term], jax_terms[term], **close, err_msg=term)


def test_every_switch_changes_the_loss():
    """The weights are the same by name. By the test above, the losses also differ in JAX."""
    totals = {}
    for switch in model_switches.SWITCHES:
        config, loss_config, masks = model_switches.configs(switch, fusion_depth=2)
        inputs = tiny_model.inputs(config, masks)
        model = torch_model.PretrainModel(config_of(config), loss_config.frame_difference)
        # Three times the goldens' scale gives cross-attention more influence on the loss.
        weights = golden_cases.weights(shapes_of(model))
        load_weights(model, {name: 3 * value for name, value in weights.items()})
        with torch.no_grad():
            weight, group = loss_config.contrastive_weight, loss_config.group_size
            terms = torch_model.pretrain_loss(model(*tensors(inputs)), 0.07, weight, group)
        totals[switch] = float(terms["total"])
    ascending = np.sort(list(totals.values()))
    assert np.diff(ascending).min() > 0.01, totals


@pytest.mark.parametrize("modality", torch_model.MODALITIES)
@pytest.mark.parametrize("feature_fusion", [True, False])
def test_finetuning_agrees_with_jax(modality, feature_fusion):
    config = tiny_model.model_config()
    video, log_mel, *_ = tiny_model.inputs(config)
    model = torch_model.FinetuneModel(TINY, 5, modality, feature_fusion).eval()
    state = jittered_state(model)
    load_weights(model, state)
    twin = HiCMAEFinetune(config, FinetuneConfig(outputs=5, modality=modality, feature_fusion=feature_fusion))
    params = jax_parameters(state, twin, video, log_mel)
    expected = twin.apply({"params": params}, video, log_mel)
    clips = torch.from_numpy(np.array(video)), torch.from_numpy(np.array(log_mel))
    with torch.no_grad():
        np.testing.assert_allclose(model.features(*clips), expected.feature, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model(*clips), expected.logits, rtol=1e-4, atol=1e-5)


# --- Doing less work ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cross", [False, True])
def test_last_rows_of_a_block_are_those_of_all_rows(cross):
    torch.manual_seed(0)
    block = torch_model.Block(16, 2, cross=cross)
    x, context = torch.randn(2, 9, 16), torch.randn(2, 5, 16) if cross else None
    torch.testing.assert_close(block(x, context, rows=4), block(x, context)[:, -4:])


def test_the_patch_embedding_equals_the_stored_convolution():
    torch.manual_seed(0)
    encoder = torch_model.Encoder(TINY, "video")
    video = torch.rand(2, TINY.frames, TINY.image_size, TINY.image_size, 3)
    encoder.blocks[0] = torch.nn.Identity()
    encoder.norm = torch.nn.Identity()
    tokens = encoder(torch_model.tubelets(video, TINY), {1})[1] - encoder.positions
    mean, std = torch.tensor(torch_model.PIXEL_MEAN), torch.tensor(torch_model.PIXEL_STD)
    convolved = encoder.patch_embed["proj"](((video - mean) / std).permute(0, 4, 1, 2, 3))
    expected = convolved.flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def test_pixels_may_be_bytes_or_floats():
    model = torch_model.PretrainModel(TINY)
    video, *rest = random_inputs()
    for of_bytes, of_floats in zip(model(video, *rest)[:3], model(video / 255, *rest)[:3]):
        torch.testing.assert_close(of_bytes, of_floats)


def test_the_loss_of_groups_is_the_mean_of_their_losses():
    model = torch_model.PretrainModel(TINY)
    with torch.no_grad():
        output = model(*random_inputs())
        grouped = torch_model.pretrain_loss(output, group=2)["contrastive"]
        halves = [
            output._replace(
                video_levels=[x[rows] for x in output.video_levels],
                audio_levels=[x[rows] for x in output.audio_levels],
            )
            for rows in (slice(0, 2), slice(2, 4))
        ]
        apart = [torch_model.pretrain_loss(half)["contrastive"] for half in halves]
        whole = torch_model.pretrain_loss(output)["contrastive"]
    torch.testing.assert_close(grouped, sum(apart) / 2)
    assert not torch.isclose(grouped, whole)


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_torch_compile_makes_one_graph():
    torch.manual_seed(0)
    model = torch_model.PretrainModel(TINY)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    inputs = random_inputs()
    for ours, theirs in zip(model(*inputs)[:4], compiled(*inputs)[:4]):
        torch.testing.assert_close(ours, theirs)


def test_bfloat16_autocast_stays_within_one_percent_with_float32_gradients():
    torch.manual_seed(0)
    model, inputs = torch_model.PretrainModel(TINY), random_inputs()
    full = torch_model.pretrain_loss(model(*inputs))["total"]
    with torch.autocast("cpu", torch.bfloat16):
        half = torch_model.pretrain_loss(model(*inputs))["total"]
    half.backward()
    assert half.dtype == torch.float32
    assert abs(half - full) < 0.01 * full
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


# --- Training -----------------------------------------------------------------------------------------------


def test_drop_path_drops_whole_clips_and_keeps_the_mean():
    torch.manual_seed(0)
    block = torch_model.Block(4, 1, drop_path=0.25)
    dropped = block.drop(torch.ones(4000, 3, 4))
    per_clip = dropped.flatten(1)
    assert torch.equal(per_clip, per_clip[:, :1].expand_as(per_clip))
    torch.testing.assert_close(per_clip.unique(), torch.tensor([0, 1 / 0.75]))
    assert abs(dropped.mean() - 1) < 0.03
    assert torch.equal(block.eval().drop(torch.ones(9, 3, 4)), torch.ones(9, 3, 4))


def test_drop_path_rises_linearly_from_0_in_each_stack():
    model = torch_model.FinetuneModel(config_of(tiny_model.model_config(fusion_depth=2)), 5)
    rates = [block.drop_path for block in model.encoder.blocks]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1], rtol=1e-6)
    np.testing.assert_allclose([b.drop_path for b in model.encoder_fusion.blocks_audio], [0, 0.1], rtol=1e-6)
    model = torch_model.PretrainModel(TINY)
    assert all(block.drop_path == 0 for block in model.modules() if isinstance(block, torch_model.Block))


# --- Initialisation -----------------------------------------------------------------------------------------


def assert_uniform(value, bound):
    assert value.abs().max() <= bound * (1 + 1e-6)
    assert value.abs().max() > 0.9 * bound
    np.testing.assert_allclose(value.std(), bound / 3**0.5, rtol=0.15)


def test_pretrain_initialisation():
    torch.manual_seed(0)
    for name, value in torch_model.PretrainModel(TINY).state_dict().items():
        if name.startswith("mask_token"):
            assert value.abs().max() <= 0.02
            assert value.std() > 0.006
        elif "patch_embed" in name:
            assert_uniform(value, (1536 if name.startswith("encoder.") else 256) ** -0.5)
        elif name.startswith("encoder_to_decoder"):
            assert_uniform(value, 32**-0.5)
        elif value.dim() == 2:  # qkv and kv as the stacked matrices that they are
            assert_uniform(value, (6 / sum(value.shape)) ** 0.5)
        else:
            assert torch.equal(value, torch.full_like(value, "norm" in name and name.endswith("weight"))), (
                name
            )


def test_finetune_initialisation():
    torch.manual_seed(0)
    for name, value in torch_model.FinetuneModel(TINY, 7).state_dict().items():
        if name.endswith("layer_weights"):
            assert torch.equal(value, torch.full_like(value, 1 / 3))
        elif name.startswith("head"):
            assert value.abs().max() <= 128**-0.5
            assert value.std() > 0.3 * 128**-0.5
        elif "patch_embed" in name:
            assert_uniform(value, (1536 if name.startswith("encoder.") else 256) ** -0.5)
        elif name.startswith("encoder_fusion") and value.dim() == 2:
            assert_uniform(value, (6 / sum(value.shape)) ** 0.5)
        elif value.dim() == 2:
            np.testing.assert_allclose(value.std(), 0.02, rtol=0.1)
            assert value.abs().max() > 0.04
        else:
            assert torch.equal(value, torch.full_like(value, "norm" in name and name.endswith("weight"))), (
                name
            )


# --- Errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": 100}, "image_size is no multiple of patch"),
        ({"frames": 15}, "frames is no multiple of tubelet"),
        ({"audio_frames": 250}, "audio_frames is no multiple of patch"),
        ({"encoder_heads": 7}, "encoder_dim is no multiple of encoder_heads"),
        ({"skip_layers": (4, 7, 11)}, "skip_layers do not ascend within 1 … encoder_depth"),
        ({"skip_layers": (7, 4)}, "skip_layers do not ascend"),
        ({"decoder_depth": 3}, "decoder_depth must exceed the number of skips"),
        ({"fusion_flow": "sideways"}, "fusion_flow is one of"),
        ({"skip_order": "random"}, "skip_order of"),
    ],
)
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        torch_model.Config(**overrides)


def test_clips_of_another_geometry_are_refused():
    """Another size, a spectrogram [B, frequency, time], channels before frames."""
    pretrain, finetune = torch_model.PretrainModel(TINY), torch_model.FinetuneModel(TINY, 5)
    video, log_mel, *masks = random_inputs()
    wide = torch_model.Config(image_size=32, frames=4, audio_frames=32, audio_bins=64, skip_layers=())
    with pytest.raises(RuntimeError, match="unflatten"):
        torch_model.audio_patches(torch.zeros(2, 64, 32), wide)
    for bad in (torch.zeros(4, 4, 48, 48, 3), torch.zeros(4, 4, 64, 16, 3), video.permute(0, 4, 1, 2, 3)):
        for call in (lambda x: pretrain(x, log_mel, *masks), lambda x: finetune(x, log_mel)):
            with pytest.raises(ValueError, match=r"video has shape .* this model takes \[B, 4, 32, 32, 3\]"):
                call(bad)
    with pytest.raises(ValueError, match=r"log_mel has shape .* this model takes \[B, 32, 32\]"):
        finetune(video, log_mel[:, :16])
    with pytest.raises(ValueError, match="4 clips of video, but 3 of log_mel: give one for each"):
        finetune(video, log_mel[:3])


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match="'smell': choose one of audio-visual, video, audio"):
        torch_model.FinetuneModel(TINY, 5, "smell")


def test_a_group_that_does_not_divide_the_batch_is_refused():
    model = torch_model.PretrainModel(TINY)
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match="batch 4 is not a multiple of the negatives' group of 3"),
    ):
        torch_model.pretrain_loss(model(*random_inputs()), group=3)


def test_cross_entropy_of_the_logits_trains_every_parameter():
    model = torch_model.FinetuneModel(TINY, 5)
    video, log_mel, *_ = random_inputs()
    F.cross_entropy(model(video, log_mel), torch.arange(4), label_smoothing=0.1).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
