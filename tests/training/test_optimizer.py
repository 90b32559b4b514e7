"""Rules, schedule, decay mask and layer-wise rates."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from hicmae_jax.model import sizes
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.training import optimizer as optim
from hicmae_jax.training import path_rules, schedules, sharding
from hicmae_jax.weights import torch_names
from tests.support import golden_cases, tiny_model
from tests.support.paths import GOLDENS


def pretrain_shapes(scan_encoders):
    config = tiny_model.model_config()
    model = HiCMAE(config, ExecutionConfig(scan_encoders=scan_encoders))
    return jax.eval_shape(model.init, jax.random.key(0), *tiny_model.inputs(config))["params"]


def finetune_shapes(modality="audio-visual", feature_fusion=True, scan_encoders=False, **choices):
    config = tiny_model.model_config(**choices)
    model = HiCMAEFinetune(
        config,
        FinetuneConfig(outputs=3, modality=modality, feature_fusion=feature_fusion),
        ExecutionConfig(scan_encoders=scan_encoders),
    )
    video, log_mel, _, _ = tiny_model.inputs(config)
    return jax.eval_shape(model.init, jax.random.key(0), video, log_mel)["params"]


TREE = {"a": {"kernel": 1.0, "bias": 2.0}, "b": {"kernel": 3.0}}


class TestRules:
    def test_the_first_rule_that_matches_applies(self):
        found = path_rules.match([("^a/kernel", "first"), ("kernel", "second"), (".", "rest")], TREE)
        assert found == {"a": {"kernel": "first", "bias": "rest"}, "b": {"kernel": "second"}}

    def test_a_callable_sees_the_match_and_the_leaf(self):
        found = path_rules.match([(r"(\w)/kernel", lambda m, leaf: (m[1], leaf)), ("bias", None)], TREE)
        assert found["b"]["kernel"] == ("b", 3.0)

    def test_an_uncovered_parameter_is_an_error(self):
        with pytest.raises(ValueError, match=r"no rule covers a/bias$"):
            path_rules.match([("kernel", 1)], TREE)

    def test_an_unused_rule_is_an_error(self):
        with pytest.raises(ValueError, match="decide for no parameter: scale"):
            path_rules.match([(".", 1), ("scale", 2)], TREE)


class TestSchedule:
    def test_warm_up_starts_at_zero_and_the_peak_comes_twice(self):
        rate = schedules.warmup_cosine(1.0, 0.1, 5, 15)
        values = np.asarray(jax.vmap(rate)(jnp.arange(15)))
        np.testing.assert_allclose(values[:5], np.linspace(0, 1, 5), rtol=1e-6)
        cosine = 0.1 + 0.45 * (1 + np.cos(np.pi * np.arange(10) / 10))
        np.testing.assert_allclose(values[5:], cosine, rtol=1e-6)
        assert values[4] == values[5] == 1

    def test_warm_up_of_no_step_or_one_step_and_steps_past_the_end(self):
        assert schedules.warmup_cosine(1.0, 0.1, 0, 10)(0) == 1
        assert schedules.warmup_cosine(1.0, 0.1, 1, 10)(0) == 0
        rate = schedules.warmup_cosine(1.0, 0.1, 0, 10)
        assert rate(9) == rate(500)

    def test_the_rate_still_falls_at_the_end_of_a_full_run(self):
        """682,200 steps: the rate of the last steps must still fall in float32."""
        rate = jax.jit(optim.OptimizerConfig(steps_per_epoch=6822).schedule())
        assert rate(0) == 0
        np.testing.assert_allclose(rate(34_110 - 1), 3e-4 * 160 / 256, rtol=1e-6)
        np.testing.assert_allclose(rate(34_110 + 324_045), (3e-4 + 1e-5) / 2 * 160 / 256, rtol=1e-4)
        np.testing.assert_allclose(rate(682_199), 1e-5 * 160 / 256, rtol=1e-4)

    def test_the_rate_is_constant_between_warm_up_and_decay(self):
        rate = schedules.warmup_stable_decay(1.0, 0.1, 5, 30, 10)
        values = np.asarray(jax.vmap(rate)(jnp.arange(32)))
        np.testing.assert_allclose(values[:5], np.linspace(0, 1, 5), rtol=1e-6)
        assert (values[5:21] == 1).all()
        np.testing.assert_allclose(values[20:30], 0.1 + 0.9 * (1 - np.sqrt(np.arange(10) / 10)), rtol=1e-6)
        assert values[29] == values[31]

    def test_rates_before_the_decay_have_the_same_bits_for_every_length(self):
        long, short = (
            optim.OptimizerConfig(shape="wsd", base_rate=1.7e-3, batch=24, steps_per_epoch=7, **length)
            for length in (
                {"epochs": 1000, "warmup_epochs": 3},
                {"epochs": 40, "warmup_epochs": 0, "warmup_examples": 3 * 7 * 24},
            )
        )
        decay = 40 * 7 - short.decay_steps
        assert decay == 224
        one, other = (jax.jit(jax.vmap(of.schedule()))(jnp.arange(280)) for of in (long, short))
        np.testing.assert_array_equal(one[: decay + 1], other[: decay + 1])
        assert (one[decay + 1 :] > other[decay + 1 :]).all()

    def test_a_decay_over_the_whole_run_and_a_decay_that_does_not_fit(self):
        assert schedules.warmup_stable_decay(1.0, 0.0, 0, 4, 4)(1) == 0.5
        for decay in (0, 8):
            with pytest.raises(
                ValueError, match=f"warm-up of 3 steps and a decay of {decay} do not fit into 10"
            ):
                schedules.warmup_stable_decay(1.0, 0.1, 3, 10, decay)

    @pytest.mark.parametrize(
        ("rule", "batch", "factor"),
        [
            *(("linear", 64, 0.25), ("linear", 256, 1.0), ("linear", 1024, 4.0)),
            *(("sqrt", 64, 0.5), ("sqrt", 256, 1.0), ("sqrt", 1024, 2.0)),
            *(("fixed", 64, 1.0), ("fixed", 1024, 1.0)),
        ],
    )
    @pytest.mark.parametrize("shape", optim.SHAPES)
    def test_each_rate_rule_scales_all_rates_with_the_batch(self, rule, batch, factor, shape):
        config = optim.OptimizerConfig(rate_rule=rule, batch=batch, shape=shape, steps_per_epoch=10)
        np.testing.assert_allclose(config.schedule()(50), 3e-4 * factor, rtol=1e-6)
        at_256 = optim.OptimizerConfig(batch=256, shape=shape, steps_per_epoch=10)
        np.testing.assert_allclose(config.schedule()(999), at_256.schedule()(999) * factor, rtol=1e-6)

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            (
                {"warmup_epochs": 0, "warmup_examples": 1600, "epochs": 1},
                "^warmup_examples 1600 take 10 steps of batch 160, of 10 in all",
            ),
            (
                {"shape": "wsd", "decay_share": 0.99},
                "^optimizer.decay_share 0.99 is 990 of 1000 steps, which leaves too few for a warm-up of 50",
            ),
        ],
    )
    def test_a_warm_up_longer_than_the_run_is_refused_when_the_schedule_is_made(self, choices, message):
        with pytest.raises(ValueError, match=message):
            optim.OptimizerConfig(**{"steps_per_epoch": 10} | choices).schedule()

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            (
                {"warmup_examples": 5},
                "warmup_examples 5 must be at least 0, and warmup_epochs 5 be 0 beside it",
            ),
            ({"warmup_epochs": 100}, "warmup_epochs 100 in 0 … 99"),
            ({"steps_per_epoch": 0}, "steps_per_epoch 0"),
            ({"batch": 0}, "batch 0 is not at least 1"),
            ({"base_minimum": 1.0}, "base_minimum 1.0"),
            ({"layer_decay": 0.0}, "layer_decay 0.0"),
        ],
    )
    def test_impossible_choices_are_refused(self, choices, message):
        with pytest.raises(ValueError, match=message):
            optim.OptimizerConfig(**{"steps_per_epoch": 10} | choices)


@pytest.mark.parametrize("scan", [False, True])
def test_vectors_biases_and_the_video_mask_token_do_not_decay(scan):
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


def test_the_fine_tuning_recipe_is_that_of_the_goldens():
    recipe = optim.OptimizerConfig(**optim.FINETUNE, steps_per_epoch=10)
    steps = golden_cases.load(GOLDENS / "finetune_steps_class.npz").config["train"]
    groups = golden_cases.load(GOLDENS / "groups.npz").config
    assert recipe.kind == "adamw"
    assert recipe.clip is None
    assert list(recipe.betas) == steps["betas"]
    assert recipe.layer_decay == steps["layer_decay"] == groups["layer_decay"]
    assert recipe.weight_decay == steps["weight_decay"] == groups["weight_decay"]
    for run in groups["runs"]:
        assert (recipe.base_rate, recipe.base_minimum) == (run["lr"], run["min_lr"])
        assert recipe.warmup_epochs == run["warmup"]
        assert run["clips"] // run["batch"] * run["epochs"] == run["steps"]


@pytest.mark.parametrize("scan", [False, True])
def test_groups_of_size_s_are_the_published_ones_stacked_or_not(scan):
    """Layers that are stacked get the same scales and the same decay as single layers."""
    golden = golden_cases.load(GOLDENS / "groups.npz")
    config = sizes.model_config("S")
    model = HiCMAEFinetune(config, FinetuneConfig(outputs=11), ExecutionConfig(scan_encoders=scan))
    clips = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((1, 16, 160, 160, 3), (1, 256, 128))]
    shapes = jax.eval_shape(model.init, jax.random.key(0), *clips)["params"]
    published = dict(zip(golden.names, zip(golden.arrays["lr_scale"], golden.arrays["weight_decay"] > 0)))
    decays = flatten_dict(optim.decay_mask(shapes))
    seen = set()
    for path, scale in flatten_dict(optim.layer_scales(shapes, 0.75)).items():
        stacked = np.ndim(scale) > 0
        for layer in range(len(scale) if stacked else 1):
            name = torch_names.torch_name(path, layer if stacked else None)
            of_layer = np.ravel(scale)[layer]
            np.testing.assert_allclose(of_layer, published[name][0], rtol=1e-6, err_msg=name)
            assert decays[path] == published[name][1], name
            seen.add(name)
    assert seen == set(published)


def test_updates_equal_adamw_written_out():
    """Three steps, compared with AdamW written out; the layer factor scales the decay too."""
    shapes = finetune_shapes("video")
    params = tiny_model.random_like(shapes)
    config = optim.OptimizerConfig(
        **optim.FINETUNE | {"batch": 256, "base_rate": 0.1, "warmup_epochs": 0, "epochs": 2},
        steps_per_epoch=4,
    )
    transformation = optim.make_optimizer(config, shapes)
    state = transformation.init(params)
    wanted = {k: np.asarray(v, np.float64) for k, v in flatten_dict(params, sep="/").items()}
    scales = flatten_dict(optim.layer_scales(shapes, 0.75), sep="/")
    moments = {path: (0.0, 0.0) for path in wanted}
    for step in range(3):
        gradient = tiny_model.random_like(shapes, seed=step + 5)
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


def first_update(config, params, gradient):
    """The first step's updates with a constant rate of 1, in float64."""
    transformation = optim.make_optimizer(config, params)

    @jax.jit
    def update(gradient, params):
        return transformation.update(gradient, transformation.init(params), params)[0]

    updates = update(gradient, params)
    return jax.tree.map(lambda update: np.asarray(update, np.float64), updates)


CONSTANT = {"base_rate": 1.0, "base_minimum": 1.0, "batch": 256, "warmup_epochs": 0, "steps_per_epoch": 9}


class TestLamb:
    def test_updates_of_two_tensors_equal_those_computed_by_hand(self, monkeypatch):
        """Adam's first update is the sign of the gradient, here with norm 2; the norm of the matrix is 5."""
        monkeypatch.setattr(optim, "DECAY_RULES", ((r"kernel$", True), (r"bias$", False)))
        params = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "bias": jnp.array([3.0, 4.0])}
        gradient = {"kernel": jnp.array([[1.0, -2.0], [3.0, -4.0]]), "bias": jnp.array([1.0, -1.0])}
        config = optim.OptimizerConfig(kind="lamb", weight_decay=0.0, **CONSTANT)
        updates = first_update(config, params, gradient)
        np.testing.assert_allclose(updates["kernel"], -5 / 2 * np.array([[1, -1], [1, -1]]), rtol=1e-6)
        np.testing.assert_allclose(updates["bias"], [-1, 1], rtol=1e-6)
        # With decay, the ratio is that of signs plus decay: [[4, -1], [1, 3]], with norm √27.
        updates = first_update(
            optim.OptimizerConfig(kind="lamb", weight_decay=1.0, **CONSTANT), params, gradient
        )
        np.testing.assert_allclose(
            updates["kernel"], -5 / np.sqrt(27) * np.array([[4, -1], [1, 3]]), rtol=1e-6
        )
        np.testing.assert_allclose(updates["bias"], [-1, 1], rtol=1e-6)

    def test_parameters_that_are_zero_are_updated_too(self, monkeypatch):
        monkeypatch.setattr(optim, "DECAY_RULES", ((r"kernel$", True),))
        config = optim.OptimizerConfig(kind="lamb", **CONSTANT)
        updates = first_update(config, {"kernel": jnp.zeros((2, 2))}, {"kernel": jnp.ones((2, 2))})
        np.testing.assert_allclose(updates["kernel"], -np.ones((2, 2)), rtol=1e-6)

    def test_scanned_and_unrolled_layers_get_the_same_updates(self):
        shapes, scanned = (
            {"encoder": pretrain_shapes(scan_encoders=scan)["encoder"]} for scan in (False, True)
        )
        depth = tiny_model.model_config().encoder_depth
        unrolled, gradient = tiny_model.random_like(shapes, seed=1), tiny_model.random_like(shapes, seed=2)
        # The layers' norms must differ, or one ratio for all layers would pass.
        for i in range(depth):
            unrolled["encoder"][f"blocks_{i}"]["mlp"]["fc1"]["kernel"] *= 10.0**i

        def stacked(tree):
            layers = [tree["encoder"][f"blocks_{i}"] for i in range(depth)]
            others = {name: part for name, part in tree["encoder"].items() if "blocks_" not in name}
            return {"encoder": {**others, "blocks": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)}}

        assert jax.tree.map(np.shape, stacked(unrolled)) == jax.tree.map(lambda leaf: leaf.shape, scanned)
        config = optim.OptimizerConfig(kind="lamb", **CONSTANT)
        wanted = stacked(first_update(config, unrolled, gradient))
        found = first_update(config, stacked(unrolled), stacked(gradient))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found, wanted)
        norms = np.linalg.norm(found["encoder"]["blocks"]["mlp"]["fc1"]["kernel"], axis=(1, 2))
        np.testing.assert_allclose(norms[1:] / norms[:-1], 10, rtol=0.1)

    def test_the_ratio_of_a_sharded_parameter_is_that_of_the_whole_parameter(self):
        leaf = jax.ShapeDtypeStruct((3, 8, 16), "float32")
        shapes = {"encoder": {"blocks": {"fc": {"kernel": leaf, "bias": leaf}}}}
        params, gradient = tiny_model.random_like(shapes, seed=1), tiny_model.random_like(shapes, seed=2)
        where = {
            "encoder": {"blocks": {"fc": {"kernel": jax.P(None, None, "fsdp"), "bias": jax.P()}}},
        }
        mesh = sharding.make_mesh(fsdp=8)
        split = jax.tree.map(lambda spec: jax.sharding.NamedSharding(mesh, spec), where)
        config = optim.OptimizerConfig(kind="lamb", **CONSTANT)
        found = first_update(config, *(jax.device_put(tree, split) for tree in (params, gradient)))
        wanted = first_update(config, params, gradient)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found, wanted)

    def test_updates_equal_optax_lamb_if_every_parameter_is_a_decayed_matrix(self, monkeypatch):
        monkeypatch.setattr(optim, "DECAY_RULES", ((r"kernel$", True),))
        params = {"a": {"kernel": jnp.ones((2, 3))}, "b": {"kernel": jnp.full((3, 2), 2.0)}}
        config = optim.OptimizerConfig(kind="lamb", **CONSTANT | {"base_rate": 0.1, "base_minimum": 0.1})
        ours = optim.make_optimizer(config, params)
        theirs = optax.lamb(0.1, *config.betas, eps=config.epsilon, weight_decay=config.weight_decay)
        results = []
        for transformation in (ours, theirs):
            now, state = params, transformation.init(params)
            for seed in range(3):
                updates, state = transformation.update(tiny_model.random_like(params, seed), state, now)
                now = optax.apply_updates(now, updates)
            results.append(now)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), *results)


class TestClipping:
    PARAMS: ClassVar = {"encoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}

    def moments(self, gradient, **choices):
        config = optim.OptimizerConfig(betas=(0.0, 0.0), **CONSTANT | choices)
        transformation = optim.make_optimizer(config, self.PARAMS)
        _, state = transformation.update(gradient, transformation.init(self.PARAMS), self.PARAMS)
        return state[0].mu["encoder"]

    @pytest.fixture(autouse=True)
    def only_these(self, monkeypatch):
        monkeypatch.setattr(optim, "DECAY_RULES", ((r"kernel$", True), (r"bias$", False)))

    def test_a_larger_norm_of_the_whole_gradient_is_scaled_down_to_the_bound(self):
        gradient = {"encoder": {"kernel": jnp.array([[3.0, 0.0], [0.0, 0.0]]), "bias": jnp.array([0.0, 4.0])}}
        found = self.moments(gradient, clip=1.0)
        np.testing.assert_allclose(found["kernel"], [[0.6, 0], [0, 0]], rtol=1e-6)
        np.testing.assert_allclose(found["bias"], [0, 0.8], rtol=1e-6)

    def test_a_smaller_norm_or_no_bound_changes_no_bit(self):
        gradient = tiny_model.random_like(self.PARAMS, 3)
        for found in (self.moments(gradient, clip=100.0), self.moments(gradient, clip=None)):
            jax.tree.map(np.testing.assert_array_equal, found, gradient["encoder"])

    def test_a_resumed_run_may_begin_to_clip(self):
        states = [
            optim.make_optimizer(optim.OptimizerConfig(clip=clip, **CONSTANT), self.PARAMS).init(self.PARAMS)
            for clip in (None, 1.0)
        ]
        assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
