"""The size table and its shapes."""

import math

import jax
import numpy as np
import pytest

from hicmae_jax.aot.activations import activation_bytes
from hicmae_jax.model import shapes, sizes
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig, MaskConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.flops import finetune_flops, flops
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.masking import DECODE_KINDS
from hicmae_jax.runs import capacity
from launch import sizes as command
from tests.support import published_names, tiny_model


@pytest.mark.parametrize(
    ("size", "parameters", "forward", "training"),
    [("B", 99.61, 28.7, 86.0), ("S", 50.58, None, 33.7), ("T", None, None, 16.8)],
)
def test_published_sizes(size, parameters, forward, training):
    model, masks = sizes.model_config(size), MaskConfig()
    count = flops(model, masks)
    if parameters:
        assert round(shapes.pretrain_parameters(model, masks) / 1e6, 2) == parameters
    if forward:
        assert round(sum(count.forward.values()) / 1e9, 1) == forward
    assert round(sum(count.training.values()) / 1e9, 1) == training


@pytest.mark.parametrize("kind", DECODE_KINDS)
def test_decoding_half_of_the_masked_tokens_costs_b_a_third_less(kind):
    masks = MaskConfig(video_decode_fraction=0.5, audio_decode_fraction=0.5, video_decode_kind=kind)
    count = flops(sizes.model_config("B"), masks)
    assert round(sum(count.training.values()) / 1e9, 1) == 56.3


@pytest.mark.parametrize(("size", "millions"), [("T", 20.5), ("S", 45.7), ("B", 80.8)])
def test_published_finetuning_sizes(size, millions):
    count = shapes.finetune_parameters(sizes.model_config(size), FinetuneConfig(outputs=11))
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("size", "millions", "training"), [("avf-L", 178.67, 146.4), ("avf-H", 303.18, 230.0)]
)
def test_sizes_of_the_successor(size, millions, training):
    """Against the names that a published checkpoint of these widths has, and the traced forward pass."""
    model, masks = sizes.model_config(size), MaskConfig()
    names = published_names.pretrain(
        model.encoder_dim, model.encoder_depth, 2, model.decoder_dim, [False, True, True, True]
    )
    count = shapes.pretrain_parameters(model, masks)
    assert count == sum(map(math.prod, names.values()))
    assert round(count / 1e6, 2) == millions
    counted = flops(model, masks)
    assert round(sum(counted.training.values()) / 1e9, 1) == training
    inputs = shapes.abstract_inputs(model, masks, 1)
    params = {"params": shapes.abstract_parameters(model, masks)}
    traced = jax.make_jaxpr(HiCMAE(model).apply)(params, *inputs)
    assert products(traced.jaxpr) == sum(counted.forward.values())


def test_sizes_are_in_the_order_of_their_parameters():
    counts = [capacity.least_parameters(sizes.model_config(name)) for name in sizes.SIZES]
    assert counts == sorted(counts)


@pytest.mark.parametrize(("size", "low", "high"), [("H", 0.45e9, 0.55e9), ("g", 1.35e9, 1.45e9)])
def test_scaling_sizes(size, low, high):
    model = sizes.model_config(size)
    assert low < shapes.pretrain_parameters(model, MaskConfig()) < high
    assert model.encoder_dim % 128 == model.decoder_dim % 128 == 0


def test_taps_move_with_depth():
    assert sizes.taps(10) == (4, 7, 10)
    assert sizes.taps(4) == (2, 3, 4)
    assert sizes.taps(32) == (13, 22, 32)
    assert sizes.model_config("B", encoder_depth=12).skip_layers == (5, 8, 12)
    assert sizes.model_config("B", encoder_depth=12, skip_layers=(4, 8, 12)).skip_layers == (4, 8, 12)


@pytest.mark.parametrize(
    ("config", "masks"),
    [
        (tiny_model.model_config(), tiny_model.MASKS),
        (tiny_model.model_config(skip_connections=False, fusion_depth=2), tiny_model.MASKS),
        (tiny_model.model_config(), MaskConfig(video_ratio=0.75, video_decode_fraction=0.5, audio_ratio=0.5)),
    ],
)
def test_the_count_equals_the_products_of_the_traced_forward_pass(config, masks):
    inputs = tiny_model.inputs(config, masks, batch=1)
    model = HiCMAE(config)
    params = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    traced = jax.make_jaxpr(model.apply)(params, *inputs)
    assert products(traced.jaxpr) == sum(flops(config, masks).forward.values())


def products(jaxpr):
    """Sum 2 · M · N · K over the matrix products of a traced program."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = int(np.prod([left[i] for i in contracted]))
            total += 2 * inner * int(np.prod(equation.outvars[0].aval.shape))
        for value in equation.params.values():  # calls: jit, custom derivatives
            if hasattr(value, "jaxpr"):
                total += products(value.jaxpr)
    return total


@pytest.mark.parametrize("modality", ["audio-visual", "video", "audio"])
def test_the_count_of_fine_tuning_equals_the_products_of_its_forward_pass(modality):
    config = tiny_model.model_config(fusion_depth=2)
    # Of the last layer only: the learned sum of layers is no matrix product of tokens.
    finetune = FinetuneConfig(outputs=6, modality=modality, feature_fusion=False)
    model = HiCMAEFinetune(config, finetune)
    clips = shapes.abstract_clips(config, 1)
    params = jax.eval_shape(model.init, jax.random.key(0), *clips)
    traced = jax.make_jaxpr(model.apply)(params, *clips)
    counted = finetune_flops(config, finetune)
    assert products(traced.jaxpr) == sum(counted.forward.values())
    for name, forward in counted.forward.items():
        assert counted.training[name] == (2 if "patches" in name else 3) * forward


def test_remat_keeps_less():
    masks = tiny_model.MASKS
    kept = [
        activation_bytes(
            tiny_model.model_config(),
            masks,
            ExecutionConfig(remat_encoder=choice, remat_fusion=choice, remat_decoder=choice),
        )
        for choice in ("none", "dots", "full")
    ]
    assert kept[0] > kept[1] > kept[2] > 0


def test_an_unknown_size_is_refused():
    with pytest.raises(
        ValueError, match="unknown model size 'XL': choose one of mu, T, S, B, avf-L, L, avf-H, H, g"
    ):
        sizes.model_config("XL")


def test_the_command_prints_the_published_figures():
    row = list(command.overview(["B"], remat="full"))[2]
    assert row.split()[:2] == ["B", "512"]
    assert "99.61" in row
    assert " 86.0 " in row
    parts = command.components("B").splitlines()
    assert parts[-1].split()[:3] == ["all", "28.70", "85.97"]
    assert len(parts) == 2 + len(flops(sizes.model_config("B"), MaskConfig()).forward)
