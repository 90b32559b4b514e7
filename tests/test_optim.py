"""Rules, schedule, decay mask and layer-wise rates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from hicmae_jax import optim, rules
from hicmae_jax.config import FinetuneConfig
from hicmae_jax.finetune_model import HiCMAEFinetune
from hicmae_jax.model import HiCMAE
from tests import tiny


def pretrain_shapes(**choices):
    config = tiny.model_config(**choices)
    return jax.eval_shape(HiCMAE(config).init, jax.random.key(0), *tiny.inputs(config))["params"]


def finetune_shapes(modality="audio-visual", feature_fusion=True, **choices):
    config = tiny.model_config(**choices)
    model = HiCMAEFinetune(
        config, FinetuneConfig(outputs=3, modality=modality, feature_fusion=feature_fusion)
    )
    video, log_mel, _, _ = tiny.inputs(config)
    return jax.eval_shape(model.init, jax.random.key(0), video, log_mel)["params"]


TREE = {"a": {"kernel": 1.0, "bias": 2.0}, "b": {"kernel": 3.0}}


class TestRules:
    def test_the_first_match_decides(self):
        found = rules.match([("^a/kernel", "first"), ("kernel", "second"), (".", "rest")], TREE)
        assert found == {"a": {"kernel": "first", "bias": "rest"}, "b": {"kernel": "second"}}

    def test_a_callable_sees_the_match_and_the_leaf(self):
        found = rules.match([(r"(\w)/kernel", lambda m, leaf: (m[1], leaf)), ("bias", None)], TREE)
        assert found["b"]["kernel"] == ("b", 3.0)

    def test_an_uncovered_parameter_is_an_error(self):
        with pytest.raises(ValueError, match=r"no rule covers a/bias$"):
            rules.match([("kernel", 1)], TREE)

    def test_an_unused_rule_is_an_error(self):
        with pytest.raises(ValueError, match="decide for no parameter: scale"):
            rules.match([(".", 1), ("scale", 2)], TREE)


class TestSchedule:
    def test_warm_up_starts_at_zero_and_the_peak_comes_twice(self):
        rate = optim.warmup_cosine(1.0, 0.1, 5, 15)
        values = np.asarray(jax.vmap(rate)(jnp.arange(15)))
        np.testing.assert_allclose(values[:5], np.linspace(0, 1, 5), rtol=1e-6)
        cosine = 0.1 + 0.45 * (1 + np.cos(np.pi * np.arange(10) / 10))
        np.testing.assert_allclose(values[5:], cosine, rtol=1e-6)
        assert values[4] == values[5] == 1

    def test_no_warm_up_one_step_of_it_and_steps_past_the_end(self):
        assert optim.warmup_cosine(1.0, 0.1, 0, 10)(0) == 1
        assert optim.warmup_cosine(1.0, 0.1, 1, 10)(0) == 0
        rate = optim.warmup_cosine(1.0, 0.1, 0, 10)
        assert rate(9) == rate(500)

    def test_a_full_run_keeps_its_precision(self):
        """682,200 steps: the last ones must still descend in float32."""
        rate = jax.jit(optim.OptimizerConfig(steps_per_epoch=6822).schedule())
        assert rate(0) == 0
        np.testing.assert_allclose(rate(34_110 - 1), 3e-4 * 160 / 256, rtol=1e-6)
        np.testing.assert_allclose(rate(34_110 + 324_045), (3e-4 + 1e-5) / 2 * 160 / 256, rtol=1e-4)
        np.testing.assert_allclose(rate(682_199), 1e-5 * 160 / 256, rtol=1e-4)

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ({"warmup_epochs": 100}, "warmup_epochs 100 in 0 … 99"),
            ({"steps_per_epoch": 0}, "steps_per_epoch 0"),
            ({"batch": 0}, "batch 0 must be at least 1"),
            ({"base_minimum": 1.0}, "base_minimum 1.0"),
            ({"layer_decay": 0.0}, "layer_decay 0.0"),
        ],
    )
    def test_impossible_choices(self, choices, message):
        with pytest.raises(ValueError, match=message):
            optim.OptimizerConfig(**{"steps_per_epoch": 10} | choices)


@pytest.mark.parametrize("scan", [False, True])
def test_decay_spares_vectors_biases_and_the_video_mask_token(scan):
    flat = flatten_dict(optim.decay_mask(pretrain_shapes(scan_encoders=scan)), sep="/")
    for path, decays in flat.items():
        assert decays == (path.endswith("kernel") or path == "mask_token_audio"), path
    flat = flatten_dict(optim.decay_mask(finetune_shapes(scan_encoders=scan)), sep="/")
    assert {path.split("/")[-1] for path, decays in flat.items() if decays} == {"kernel"}


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize(
    ("modality", "fusion_depth"), [("audio-visual", 2), ("audio-visual", 0), ("video", 2), ("audio", 2)]
)
def test_layer_scales(scan, modality, fusion_depth):
    shapes = finetune_shapes(modality, scan_encoders=scan, fusion_depth=fusion_depth)
    flat = flatten_dict(optim.layer_scales(shapes, 0.5), sep="/")
    top = 3 + (fusion_depth if modality == "audio-visual" else 0) + 1
    name = "encoder_audio" if modality == "audio" else "encoder"
    assert flat[f"{name}/patch_embed/bias"] == 0.5**top
    for i in range(3):
        if scan:
            scale = flat[f"{name}/blocks/mlp/fc1/kernel"]
            assert scale.shape == (3, 1, 1)
            assert scale[i] == 0.5 ** (top - 1 - i)
            assert flat[f"{name}/blocks/norm1/bias"].shape == (3, 1)
        else:
            assert flat[f"{name}/blocks_{i}/mlp/fc1/kernel"] == 0.5 ** (top - 1 - i)
    for i in range(fusion_depth if modality == "audio-visual" else 0):
        for suffix in ("", "_audio"):
            path = f"encoder_fusion/blocks{suffix}_{i}/cross_attn/kv/kernel"
            assert flat[path] == 0.5 ** (top - 1 - 3 - i)
    assert flat[f"{name}/norm/scale"] == flat["head/kernel"] == flat["fc_norm/bias"] == 1


def test_adamw_updates_as_defined():
    """Three steps against AdamW written out, decay and layer factor on the whole curve."""
    shapes = finetune_shapes("video")
    params = tiny.random_like(shapes)
    config = optim.OptimizerConfig(
        **optim.FINETUNE | {"batch": 256, "base_rate": 0.1, "warmup_epochs": 0, "epochs": 2},
        steps_per_epoch=4,
    )
    transformation = optim.adamw(config, shapes)
    state = transformation.init(params)
    wanted = {k: np.asarray(v, np.float64) for k, v in flatten_dict(params, sep="/").items()}
    scales = flatten_dict(optim.layer_scales(shapes, 0.75), sep="/")
    moments = {path: (0.0, 0.0) for path in wanted}
    for step in range(3):
        gradient = tiny.random_like(shapes, seed=step + 5)
        updates, state = transformation.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        rate = float(config.schedule()(step))
        for path, g in flatten_dict(gradient, sep="/").items():
            g = np.asarray(g, np.float64)
            first, second = moments[path]
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            moments[path] = first, second
            step_size = (first / (1 - 0.9 ** (step + 1))) / (
                np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
            )
            decay = 0.05 * wanted[path] if path.endswith("kernel") else 0.0
            wanted[path] = wanted[path] - rate * scales[path] * (step_size + decay)
    for path, value in flatten_dict(params, sep="/").items():
        np.testing.assert_allclose(value, wanted[path], atol=2e-5, err_msg=path)
