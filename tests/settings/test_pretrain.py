"""From a recipe to the settings of a run: every setting arrives, every mistake is one line with its name."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict, config_dict

from configs import pretrain
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.settings import schema

# Another valid value than the recipe's, with what must change along, where `other_value` finds none.
OTHER_VALUES = {
    "batch": 80,
    "epochs": 50,
    "steps": (1000, {"epochs": None, "warmup_epochs": None, "warmup_steps": 10}),
    "warmup_steps": (20, {"epochs": None, "warmup_epochs": None, "steps": 1000}),
    "warmup_examples": (500_000, {"warmup_epochs": None}),
    "accumulate": 2,
    "model.image_size": 96,
    "model.frames": 8,
    "model.tubelet": 4,
    "model.patch": 32,
    "model.audio_frames": 128,
    "model.audio_bins": (128, {"model.patch": 32}),  # 128 is the only number of bins
    "model.encoder_dim": 768,
    "model.encoder_heads": 4,
    "model.encoder_depth": 12,
    "model.decoder_dim": 192,
    "model.decoder_heads": 4,
    "model.skip_layers": [5, 10],
    "execution.compiler_options": ["xla_some=true", "xla_other="],
    "loss.negatives": "global",
    "optimizer.betas": [0.9, 0.98],
    "optimizer.base_width": [384, 192],
    "data.sets": ["a", "b"],
    "data.weights": ([1.0, 3.0], {"data.sets": ("a", "b")}),
    "data.cache": "cache",
    "data.cache_gb": (1.5, {"data.cache": "cache"}),
    "checkpoint.minutes": 30.0,
    "checkpoint.milestone": 10_000,
    "checkpoint.branches": [100, 250],
    "log.wandb": "hicmae",
    "evaluation.sets": ["test"],
    "evaluation.every": (1000, {"evaluation.sets": ("test",)}),
    "evaluation.video_ratio": 0.75,
    "evaluation.audio_ratio": 0.6,
    "evaluation.picture_every": (1000, {"evaluation.sets": ("test",)}),
    "evaluation.labelled": "labelled",
    "evaluation.protocol": ("ravdess", {"evaluation.labelled": "labelled"}),
    "evaluation.probe_every": (1000, {"evaluation.labelled": "labelled"}),
    "evaluation.best": ("held_out/total", {"evaluation.sets": ("test",)}),
}


def other_value(key):
    """Another value of a setting than on a TPU, which its type and its limits suggest, and nothing along."""
    entry = run_config.SCHEMA.entries[key]
    value = setting(run_of(platform="tpu"), key)
    if entry.about.choices:
        return next(choice for choice in entry.about.choices if choice != value), {}
    if isinstance(value, bool):
        return not value, {}
    if isinstance(value, float):
        return value / 2, {}
    return (1 if value is None else value + 1), {}


def run_of(changes=(), argument="B", platform="cpu"):
    config = pretrain.get_config(argument).lock()
    config.update_from_flattened_dict({"data.sets": ("data/dev",)} | dict(changes))
    return run_config.from_config_dict(config, platform)


def setting(run, key):
    return schema.flatten(run.to_dict())[key]


@pytest.mark.parametrize("key", run_config.SCHEMA.entries)
def test_every_setting_arrives_and_comes_back(key):
    other = OTHER_VALUES[key] if key in OTHER_VALUES else other_value(key)
    value, along = other if isinstance(other, tuple) else (other, {})
    # Nothing reads a list on the command line; tuples are what a file has.
    given = tuple(value) if isinstance(value, list) else value
    changed = run_of({key: given} | along, platform="tpu")
    assert setting(changed, key) == value
    assert changed != run_of(platform="tpu")
    read_back = json.loads(json.dumps(changed.to_dict()))
    assert read_back == changed.to_dict()
    assert run_config.from_config_dict(read_back, "tpu") == changed


def test_a_temperature_may_be_infinite_also_in_a_record_which_json_can_hold():
    run = run_of({"data.temperature": float("inf"), "data.sets": ("a", "b")})
    assert run.data.temperature == float("inf")
    record = json.dumps(run.to_dict(), allow_nan=False)
    assert json.loads(record)["data"]["temperature"] == "inf"
    assert run_config.from_config_dict(json.loads(record), "cpu") == run
    assert "data.temperature " in run.as_text()


def test_the_recipe_has_every_setting_and_no_other():
    assert set(schema.flatten(pretrain.get_config().to_dict())) == set(run_config.settings())


def test_batch_seed_and_frames_reach_every_part_that_needs_them():
    run = run_of({"batch": 80, "seed": 3, "model.frames": 8, "masks.video_ratio": 0.5})
    assert (run.data.batch, run.optimizer.batch) == (80, 80)
    assert run.data.seed == 3
    assert run.data.frames == run.model.frames == 8
    assert run.preprocess.masks.video_ratio == 0.5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model.skip_connections": False}, {"decoder_skips": ()}),
        ({"model.skip_order": "shallowest-first"}, {"decoder_skips": (4, 7, 10)}),
        ({"model.skip_layers": (10,)}, {"decoder_skips": (10,)}),
        ({"model.encoder_depth": 12}, {"encoder_depth": 12, "skip_layers": (5, 8, 12)}),
        ({"model.fusion_flow": "video-first"}, {"fusion_flow": "video-first"}),
        ({"model.fusion_depth": 0}, {"fusion_depth": 0}),
        ({"model.encoder_dim": 256, "model.encoder_heads": 4}, {"encoder_dim": 256, "decoder_dim": 384}),
        ({"size": "S"}, {"encoder_dim": 384, "decoder_dim": 192, "decoder_heads": 3}),
    ],
)
def test_ablations_of_the_model(changes, expected):
    model = run_of(changes).model
    assert {name: getattr(model, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, ((80, 720), (26, 102))),
        ({"masks.video_ratio": 0.75}, ((200, 600), (26, 102))),
        ({"masks.audio_kind": "frequency", "masks.audio_ratio": 0.5}, ((80, 720), (64, 64))),
        ({"masks.video_decode_fraction": 0.5}, ((80, 360), (26, 102))),
    ],
)
def test_ablations_of_the_masks(changes, sizes):
    run = run_of(changes)
    assert run.masks.sizes(run.model) == sizes


def test_held_out_losses_are_of_the_runs_masks_unless_the_run_says_otherwise():
    run = run_of()
    assert run.held_out_preprocess == run.preprocess
    assert run_of({"evaluation.audio_ratio": 0.5}).held_out_preprocess.masks == dataclasses.replace(
        run.masks, audio_ratio=0.5
    )


def test_runs_of_different_masks_can_be_compared():
    """All masked tokens of a held-out clip are decoded, and their number may be another than in training."""
    given = {"evaluation.video_ratio": 0.9, "evaluation.audio_ratio": 0.8}
    halved = {"masks.video_decode_fraction": 0.5, "masks.audio_decode_fraction": 0.5}
    one = run_of(given | halved | {"masks.video_ratio": 0.95})
    assert one.preprocess.masks.sizes(one.model) == ((40, 380), (26, 51))
    assert one.held_out_preprocess.masks.sizes(one.model) == ((80, 720), (26, 102))
    assert one.held_out_preprocess == run_of().held_out_preprocess


def test_computation_is_in_bfloat16_on_accelerators_unless_the_run_says_otherwise():
    assert run_of(platform="cpu").execution.dtype == "float32"
    assert {run_of(platform=name).execution.dtype for name in ("gpu", "tpu")} == {"bfloat16"}
    assert run_of({"execution.dtype": "float32"}, platform="gpu").execution.dtype == "float32"


def test_attention_is_the_kernel_of_the_devices_unless_the_run_says_otherwise():
    names = ("cpu", "gpu", "cuda", "tpu")
    kinds = {name: run_of(platform=name).execution.attention for name in names}
    assert kinds == {"cpu": "xla", "gpu": "xla", "cuda": "cudnn", "tpu": "pallas"}
    for name in names:
        assert run_of({"execution.attention": "xla"}, platform=name).execution.attention == "xla"
    assert run_of({"execution.attention": "cudnn"}, platform="cuda").execution.attention == "cudnn"


def test_encoders_are_recomputed_unless_cudnn_computes_their_attention():
    def choice(platform, **changes):
        changes = {name.replace("__", "."): value for name, value in changes.items()}
        return run_of(changes, platform=platform).execution.remat_encoder

    assert {name: choice(name) for name in ("cpu", "gpu", "cuda", "tpu")} == {
        "cpu": "full",
        "gpu": "full",
        "cuda": "none",
        "tpu": "full",
    }
    assert choice("cuda", execution__attention="xla") == "full"
    assert choice("cuda", execution__remat_encoder="dots") == "dots"
    assert choice("tpu", execution__remat_encoder="none") == "none"


def test_only_a_tpu_may_have_the_pallas_kernel():
    for platform in ("cpu", "gpu", "cuda"):
        with pytest.raises(
            ValueError, match=f"a kernel for TPUs, which {platform} would interpret: say auto"
        ):
            run_of({"execution.attention": "pallas"}, platform=platform)


@pytest.mark.parametrize(
    ("changes", "platform", "obstacle"),
    [
        ({}, "gpu", "needs an NVIDIA GPU of compute capability 8 or later, not gpu: use other devices"),
        ({}, "tpu", "needs an NVIDIA GPU of compute capability 8 or later, not tpu: use other devices"),
        (
            {"execution.dtype": "float32"},
            "cuda",
            "computes in bfloat16, and execution.dtype = 'float32': change the dtype",
        ),
        (
            {"model.decoder_heads": 96},
            "cuda",
            "takes heads of 8, 16, … 128 channels, and model.decoder_dim = 384 with model.decoder_heads = 96 "
            "has 4: change these",
        ),
        (
            {"model.encoder_heads": 2},
            "cuda",
            "takes heads of 8, 16, … 128 channels, and model.encoder_dim = 512 with model.encoder_heads = 2 "
            "has 256: change these",
        ),
    ],
)
def test_where_cudnn_cannot_compute_attention_xla_does(changes, platform, obstacle):
    assert run_of(changes, platform=platform).execution.attention == {"tpu": "pallas"}.get(platform, "xla")
    with pytest.raises(ValueError, match=r"execution\.attention = 'cudnn'") as refused:
        run_of(changes | {"execution.attention": "cudnn"}, platform=platform)
    assert str(refused.value) == f"execution.attention = 'cudnn' {obstacle}; or say auto or xla"


def test_the_layout_for_cpus_is_that_of_new_runs_on_cpus():
    assert {name: run_of(platform=name).execution.layout for name in ("cpu", "cuda", "tpu")} == {
        "cpu": "cpu",
        "cuda": "plain",
        "tpu": "plain",
    }
    assert run_of({"execution.layout": "cpu"}, platform="cuda").execution.layout == "cpu"


def test_a_run_on_cpus_goes_on_in_the_layout_in_which_it_began():
    def layout(platform, **changes):
        config = pretrain.get_config("B")
        config.data.sets = ("data/dev",)
        config.execution.update(changes)
        begun = {"execution.layout": "plain", "preprocess.pixels": "float32"}
        return run_config.from_config_dict(config, platform, begun).execution.layout

    assert layout("cpu") == "plain"
    assert layout("cpu", layout="cpu") == "cpu"


def test_steps_give_the_schedule_that_as_many_epochs_give():
    by_epoch = run_of({"epochs": 4, "warmup_epochs": 1})
    by_step = run_of({"epochs": None, "warmup_epochs": None, "steps": 40, "warmup_steps": 10})
    assert by_epoch.total_steps(10) == by_step.total_steps(10) == by_step.total_steps(999) == 40
    one, other = (run.optimizer_config(10).schedule() for run in (by_epoch, by_step))
    assert [float(one(step)) for step in range(42)] == [float(other(step)) for step in range(42)]


def test_a_warm_up_by_clips_is_as_long_at_any_batch():
    """To within a batch: 10,000 clips are 63 steps of 160 clips, and 5 steps of 2,000."""
    for batch, steps in ((160, 63), (2_000, 5)):
        run = run_of({"batch": batch, "warmup_epochs": None, "warmup_examples": 10_000})
        optimizer = run.optimizer_config(1_000_000 // batch)
        assert optimizer.warmup_steps == steps
        assert 10_000 <= optimizer.warmup_steps * batch < 10_000 + batch


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        # Names and types.
        ({"model.image_size": "160"}, "model.image_size = '160' is not a whole number"),
        ({"model.skip_connections": 1}, "model.skip_connections = 1 is not True or False"),
        ({"batch": True}, "batch = True is not a whole number"),
        ({"batch": None}, "batch = None is not a whole number"),
        ({"epochs": 2.5}, "epochs = 2.5 is not a whole number or None"),
        ({"loss.temperature": "hot"}, "loss.temperature = 'hot' is not a number"),
        ({"loss.temperature": float("nan")}, "loss.temperature = nan is not a number"),
        ({"optimizer.base_rate": float("inf")}, "optimizer.base_rate = inf is not a number"),
        ({"log.wandb": 3}, "log.wandb = 3 is not a text"),
        ({"data.sets": "data/dev"}, "data.sets = 'data/dev' is not a tuple of texts"),
        ({"data.sets": (1,)}, "data.sets = (1,) is not a tuple of texts"),
        ({"data.weights": ("a",)}, "data.weights = ('a',) is not a tuple of numbers"),
        ({"optimizer.betas": (0.9,)}, "optimizer.betas = (0.9,) is not a tuple of 2 numbers"),
        ({"model.skip_layers": (4.0,)}, "model.skip_layers = (4.0,) is not a tuple of whole numbers or None"),
        # Size, seed, batch, length.
        ({"size": "XXL"}, "size = 'XXL': choose one of mu, T, S, B, avf-L, L, avf-H, H, g"),
        ({"seed": -1}, "seed -1 is not in [0, 4294967295]"),
        ({"seed": 2**32}, "seed 4294967296 is not in"),
        ({"batch": 0}, "batch 0 is not at least 1"),
        ({"fsdp": 0}, "fsdp 0 is not at least 1"),
        ({"accumulate": 0}, "accumulate 0 is not at least 1"),
        ({"accumulate": 3}, "batch 160 is not a multiple of accumulate 3"),
        (
            {"batch": 100},
            "loss.negatives = 'group:40': batch / accumulate, 100 clips, is not a multiple of",
        ),
        ({"accumulate": 8}, "loss.negatives = 'group:40': batch / accumulate, 20 clips, is not"),
        ({"epochs": None}, "epochs None and steps None are both none: give one of them"),
        ({"steps": 100}, "epochs 100 and steps 100 are both given: give one of them"),
        ({"warmup_epochs": None}, "epochs 100 goes with warmup_epochs, and with warmup_steps none"),
        ({"warmup_steps": 10}, "epochs 100 goes with warmup_epochs, and with warmup_steps none"),
        ({"epochs": None, "steps": 9}, "steps 9 goes with warmup_steps, and with warmup_epochs none"),
        ({"epochs": 0}, "epochs 0 is not at least 1"),
        ({"warmup_epochs": 100}, "warmup_epochs 100 is not in 0 … 99, short of epochs 100"),
        ({"warmup_epochs": -1}, "warmup_epochs -1 is not in"),
        (
            {"warmup_examples": 1000},
            "warmup_examples 1000 and warmup_epochs 5 are both given: one must be none",
        ),
        (
            {"epochs": None, "warmup_epochs": None, "steps": 9, "warmup_steps": 2, "warmup_examples": 160},
            "warmup_examples 160 and warmup_steps 2 are both given: one must be none",
        ),
        ({"warmup_epochs": None, "warmup_examples": -1}, "warmup_examples -1 is not at least 0"),
        (
            {"epochs": None, "warmup_epochs": None, "steps": 9, "warmup_examples": 1281},
            "warmup_examples 1281 is not in 0 … 1280, short of steps 9 of batch 160",
        ),
        # The parts' own checks, under the file's names.
        ({"model.image_size": 100}, "model.image_size 100 is not a positive multiple of the patch 16"),
        ({"model.encoder_heads": 7}, "model.encoder_dim 512 is not a positive multiple of encoder_heads 7"),
        ({"execution.dtype": "float16"}, "execution.dtype = 'float16': choose one of float32, bfloat16"),
        ({"execution.attention": "flash"}, "execution.attention = 'flash': choose one of xla, pallas, cudnn"),
        ({"model.fusion_flow": "both"}, "model.fusion_flow = 'both': choose one of"),
        ({"model.encoder_depth": 0}, "model.encoder_depth 0 is not at least 1"),
        ({"model.decoder_depth": 3}, "model: 3 skip_layers need a decoder_depth of 4 or more"),
        ({"model.audio_bins": 64}, "model.audio_bins 64: log-mel features have 128"),
        ({"masks.video_kind": "time"}, "masks.video_kind = 'time': choose one of tube, random"),
        (
            {"masks.video_ratio": 1.0},
            "masks.video_ratio: mask ratio 1.0 of 100 units leaves no visible",
        ),
        ({"masks.audio_ratio": 0.0}, "masks.audio_ratio: mask ratio 0.0 of 128 units leaves no masked token"),
        ({"masks.audio_decode_fraction": 1.5}, "masks.audio_decode_fraction: decode fraction 1.5 is not in"),
        ({"loss.temperature": 0.0}, "loss.temperature 0.0 is not above 0"),
        ({"loss.negatives": "local"}, "loss.negatives = 'local': choose `global` or `group:N`"),
        ({"optimizer.base_minimum": 1.0}, "optimizer.base_minimum 1.0 is not in 0 … base_rate 0.0003"),
        ({"optimizer.betas": (0.9, 1.0)}, "optimizer.betas (0.9, 1.0) is not in [0, 1)"),
        ({"optimizer.epsilon": 0.0}, "optimizer.epsilon 0.0 is not above 0"),
        ({"optimizer.kind": "sgd"}, "optimizer.kind = 'sgd': choose one of adamw, lamb"),
        ({"optimizer.rate_rule": "log"}, "optimizer.rate_rule = 'log': choose one of linear, sqrt, fixed"),
        ({"optimizer.schedule": "step"}, "optimizer.schedule = 'step': choose one of cosine, wsd"),
        ({"optimizer.decay_share": 0.0}, "optimizer.decay_share 0.0 is not in (0, 1]"),
        ({"optimizer.clip": 0.0}, "optimizer.clip 0.0 is not above 0"),
        ({"optimizer.weight_decay": -0.1}, "optimizer.weight_decay -0.1 is not at least 0"),
        ({"data.sets": ()}, "data.sets is empty: name the directories of prepared sets to train on"),
        ({"data.sets": ("a", "a")}, "data.sets ('a', 'a') names a set twice: say its share by data.weights"),
        ({"data.weights": (1.0, 2.0)}, "data.weights (1.0, 2.0): give a positive one for each of 1 sets"),
        ({"data.temperature": 0.0}, "data.temperature 0.0 is not above 0"),
        ({"data.temperature": float("-inf")}, "data.temperature = -inf is not a number"),
        ({"data.temperature": float("nan")}, "data.temperature = nan is not a number"),
        (
            {"data.weights": (2.0,), "data.temperature": 2.0},
            "data.temperature 2.0 does not go with weights (2.0,), which say the shares of the sets",
        ),
        ({"data.stride": 0}, "model.frames 16 and stride 0 must both be at least 1"),
        ({"data.threads": 0}, "data.threads 0 is not at least 1"),
        ({"data.workers": -1}, "data.workers -1 is not at least 0"),
        ({"checkpoint.every": 0}, "checkpoint.every 0 is not at least 1"),
        ({"checkpoint.keep": 0}, "checkpoint.keep 0 is not at least 1"),
        (
            {"checkpoint.milestone": 1500},
            "checkpoint.milestone 1500 is not a multiple of checkpoint.every",
        ),
        ({"log.every": 0}, "log.every 0 is not at least 1"),
        ({"log.profile_step": -1}, "log.profile_step -1 is not at least 0"),
        ({"evaluation.clips": 1}, "evaluation.clips 1 is not at least 2"),
        ({"faults.skips": 0}, "faults.skips 0 is not at least 1"),
        ({"faults.minutes": 1e9}, "faults.minutes 1000000000.0 is not in (0, 10080]"),
        ({"faults.minutes": 0.0}, "faults.minutes 0.0 is not in (0, 10080]"),
        (
            {"evaluation.best": "probe/linear_uar"},
            "evaluation.best probe/linear_uar is never scored: name evaluation.labelled",
        ),
        ({"evaluation.best": "total"}, "evaluation.best 'total' is no score of an evaluation"),
        ({"checkpoint.minutes": 0}, "checkpoint.minutes 0.0 is not in (0, 10080]"),
        ({"evaluation.every": 10}, "evaluation.every 10 has nothing to evaluate on: name evaluation.sets"),
        (
            {"evaluation.picture_every": 9},
            "evaluation.picture_every 9 has nothing to draw: name evaluation.sets",
        ),
        (
            {"evaluation.probe_every": 9},
            "evaluation.probe_every 9 has no labelled set: name evaluation.labelled",
        ),
        (
            {"evaluation.protocol": "ravdess"},
            "evaluation.protocol ravdess has no labelled set: name evaluation.",
        ),
        ({"evaluation.labelled_clips": 2}, "evaluation.labelled_clips 2 is not at least 3"),
        (
            {"evaluation.video_ratio": 0.005},
            "evaluation.video_ratio: mask ratio 0.005 of 100 units leaves no masked token; choose",
        ),
        (
            {"evaluation.audio_ratio": 1.0},
            "evaluation.audio_ratio: mask ratio 1.0 of 128 units leaves no visible token; choose",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_the_settings_name(changes, line):
    config = schema.flatten(pretrain.get_config("B").to_dict()) | {"data.sets": ("data/dev",)}
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        run_config.from_config_dict(config | changes, "cpu")
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_negatives_of_the_whole_batch_fit_any_micro_batch():
    """Groups of 40 do not fit micro-batches of 20 clips; see the errors above."""
    assert run_of({"accumulate": 8, "loss.negatives": "global"}).accumulate == 8


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("model.encoder_dims", "model.encoder_dim"),
        ("optimiser.weight_decay", "optimizer.weight_decay"),
        ("temperature", "loss.temperature"),
        ("checkpoint.evry", "checkpoint.every"),
        ("seeed", "seed"),
    ],
)
def test_an_unknown_setting_in_a_recipe_is_named_with_the_nearest_one(key, meant):
    config = pretrain.get_config()
    section, _, name = key.rpartition(".")
    if section and section not in config:
        config[section] = ConfigDict()
    (config[section] if section else config)[name] = 1
    with pytest.raises(ValueError, match=f"^there is no setting {key}; the nearest is {meant}$"):
        run_config.from_config_dict(config, "cpu")


@pytest.mark.parametrize(("key", "missing"), [("seed", "seed"), ("loss.temperature", "loss.temperature")])
def test_a_missing_setting_is_named(key, missing):
    tree = schema.flatten(pretrain.get_config().to_dict())
    del tree[key]
    with pytest.raises(ValueError, match=f"^{missing} is missing$"):
        run_config.from_config_dict(tree, "cpu")


def test_a_section_that_is_a_value_is_refused():
    tree = pretrain.get_config().to_dict() | {"loss": "l2"}
    with pytest.raises(ValueError, match=r"^loss = 'l2' must be a section of settings$"):
        run_config.from_config_dict(tree, "cpu")


def test_a_required_placeholder_without_a_value_is_refused():
    config = pretrain.get_config()
    config.data.sets = config_dict.required_placeholder(tuple)
    with pytest.raises(ValueError, match="required_placeholder without a value"):
        run_config.from_config_dict(config, "cpu")


def test_the_printed_form_has_a_line_for_every_setting_in_two_columns():
    lines = run_of().as_text().splitlines()
    assert [line.split()[0] for line in lines] == list(run_config.settings())
    assert len({line.index(line.split(maxsplit=1)[1]) for line in lines}) == 1
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert shown["model.skip_layers"] == "4, 7, 10"
    assert shown["execution.dtype"] == "float32"
    assert shown["steps"] == "none"
