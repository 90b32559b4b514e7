"""The JAX code and the PyTorch file reproduce the golden numbers of the published implementation."""

import dataclasses
import json

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from tests import check_golden
from tests.support import golden_cases, golden_compare, golden_jax, golden_torch
from tests.support.golden_check import MODULES, assert_all_within, check
from tests.support.golden_damage import content_of
from tests.support.paths import GOLDENS


# Goldens of clips, augmentation, mixing, losses, metrics and merging are checked beside what they are of.
@pytest.mark.parametrize(
    ("name", "quantities"),
    [
        *(("pretrain_micro", 16), ("finetune_micro", 7), ("log_mel", 8), ("crop_resize", 10), ("groups", 8)),
        *(("finetune_steps_class", 9), ("finetune_steps_mse", 9), ("finetune_steps_ccc", 9)),
    ],
)
def test_jax_agrees(name, quantities):
    lines = check(golden_cases.load(GOLDENS / f"{name}.npz"))
    assert len(lines) == quantities
    assert_all_within(lines)


@pytest.mark.parametrize(("name", "quantities"), [("pretrain_micro", 16), ("finetune_micro", 7)])
def test_pytorch_agrees(name, quantities):
    lines = check(golden_cases.load(GOLDENS / f"{name}.npz"), with_torch=True)
    assert len(lines) == quantities
    assert_all_within(lines)


@pytest.mark.slow
@pytest.mark.parametrize("with_torch", [False, True])
@pytest.mark.parametrize("name", ["pretrain_base", "finetune_base"])
def test_full_size_agrees(name, with_torch):
    assert_all_within(check(golden_cases.load(GOLDENS / f"{name}.npz"), with_torch))


def test_every_file_is_of_a_kind_that_can_be_checked():
    kinds = {golden_cases.load(path).kind for path in GOLDENS.glob("*.npz")}
    assert kinds == set(MODULES)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"weight_decay": 0.0}, {"layer_decay": 0.7}, {"betas": [0.9, 0.95]}])
def test_steps_of_another_optimizer_are_misses(change):
    golden = golden_cases.load(GOLDENS / "finetune_steps_class.npz")
    config = golden.config | {"train": golden.config["train"] | change}
    missed = {line.quantity for line in check(dataclasses.replace(golden, config=config)) if not line.ok}
    assert missed >= {"trajectory", "trajectory_outputs", "final_outputs", "final_param_norms"}
    assert "grad_norms" not in missed


# --- Other configs ------------------------------------------------------------------------------------------

UNSEEN = dict(
    image_size=32, audio_frames=48, encoder_dim=24, encoder_heads=2, encoder_depth=3, decoder_dim=16,
    decoder_heads=2, decoder_depth=3, fusion_depth=1, skip_layers=[1, 3], temperature=0.2, loss_weight=0.1,
    seed=5, batch=3, frame_difference=False, mask_ratio=0.5, mask_ratio_audio=0.6, num_classes=2,
)  # fmt: skip
TRAIN = {"lr": 2e-3, "min_lr": 1e-4, "epochs": 3, "steps_per_epoch": 2, "warmup_epochs": 1}
TRAIN |= {"weight_decay": 0.3, "betas": [0.8, 0.99]}


def write_golden(path, config, quantities, names):
    np.savez(path, config=json.dumps(config), grad_names=np.array(names), **quantities)
    return golden_cases.load(path)


def from_pytorch(tmp_path, kind, config):
    """A golden file for another config, computed by the PyTorch file."""
    shell = golden_cases.Golden(
        tmp_path, kind, config, {"trajectory": np.zeros(3)} if "train" in config else {}
    )
    quantities, names = getattr(golden_torch, kind)(shell)
    if kind == "pretrain":
        quantities |= {name: quantities[name][:, :2] for name in ("target_video", "target_audio")}
    return write_golden(tmp_path / f"{kind}.npz", config, quantities, names)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_other_configs_agree_too(tmp_path, kind):
    config = UNSEEN | ({"train": TRAIN} if kind == "pretrain" else {})
    golden = from_pytorch(tmp_path, kind, config)
    assert golden.steps == (3 if kind == "pretrain" else 0)
    assert_all_within(check(golden))


# --- The checker fails --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_golden(tmp_path_factory):
    """(golden, the quantities that PyTorch computes for it, names)."""
    golden = from_pytorch(tmp_path_factory.mktemp("golden"), "finetune", UNSEEN)
    return golden, *golden_torch.finetune(golden)


def misses(golden, computed, names):
    return [line for line in golden_compare.compare(golden, computed, names) if not line.ok]


@pytest.mark.parametrize("quantity", golden_cases.REQUIRED["finetune"])
def test_one_number_off_is_a_miss(tiny_golden, quantity):
    golden, computed, names = tiny_golden
    assert misses(golden, computed, names) == []
    value = np.array(computed[quantity], np.float64)
    index = np.unravel_index(abs(value).argmin(), value.shape)
    tolerance = golden_compare.TOLERANCES[quantity][0]
    value[index] += 1 if value.dtype == bool else 2 * tolerance * max(abs(value[index]), 0.1) + 1e-9
    if quantity == "weight_decay":
        value[0] = 1 - value[0]
    found = misses(golden, {**computed, quantity: value}, names)
    assert [line.quantity for line in found] == [quantity]


def test_nan_and_wrong_shapes_are_misses(tiny_golden):
    golden, computed, names = tiny_golden
    assert misses(golden, {**computed, "loss": np.nan}, names)
    assert misses(golden, {**computed, "logits": computed["logits"][:, :1]}, names)
    for quantity, wrong in (("grad_norms", golden.arrays["grad_norms"][1:]), ("feature", np.zeros(3))):
        damaged_golden = dataclasses.replace(golden, arrays={**golden.arrays, quantity: wrong})
        assert [line.quantity for line in misses(damaged_golden, computed, names)] == [quantity]


def test_missing_extra_and_wrong_names_are_a_miss(tiny_golden):
    golden, computed, names = tiny_golden
    wrong = [{"head.bias": "head.offset"}.get(name, name) for name in names]
    (line,) = misses(golden, computed, wrong)
    assert line.quantity == "names"
    assert line.note == "the model lacks head.bias; has besides head.offset"
    fewer = dataclasses.replace(
        golden, arrays={**golden.arrays, "grad_names": golden.arrays["grad_names"][1:]}
    )
    fewer.arrays.update(
        {name: golden.arrays[name][1:] for name in ("grad_norms", "lr_scale", "weight_decay")}
    )
    (line,) = misses(fewer, computed, names)
    assert line.note == "the model lacks none; has besides video_layer_weights"


# --- The command --------------------------------------------------------------------------------------------


def run(*arguments):
    with flagsaver.flagsaver():
        return check_golden.main(flags.FLAGS(["check_golden", *arguments]))


def test_the_command_prints_a_line_a_quantity_and_the_sum(tiny_golden, capsys):
    golden, computed, names = tiny_golden
    assert run(str(golden.path), "--torch") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok ") for line in lines[:-1])
    assert lines[-1].endswith("7 of 7 within tolerance")
    off = golden.path.with_name("off.npz")
    write_golden(off, golden.config, {**computed, "loss": computed["loss"] + 1}, names)
    assert run(str(off), "--torch") == 1
    assert "MISS loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grad_norms": None}, "lacks grad_norms"),
        ({"accuracy": np.ones(2)}, "no rule to check accuracy"),
        ({"feature": None}, "of no known kind"),
        ({"config": {**UNSEEN, "flow": "sideways"}}, "config does not define flow"),
        ({"config": {k: v for k, v in UNSEEN.items() if k != "seed"}}, "config lacks seed"),
        ({"config": {**UNSEEN, "skip_layers": [9]}}, r"skip_layers \(9,\) must lie in 1 … 3"),
        ({"schedule": np.ones(4)}, "no rule to check schedule"),
    ],
)
def test_files_of_another_form_are_one_clear_line(tiny_golden, tmp_path, capsys, changes, message):
    path = tmp_path / "a.npz"
    np.savez(path, **content_of(tiny_golden[0], **changes))
    with pytest.raises(golden_cases.GoldenError, match=message):
        golden_cases.load(path)
    assert run(str(path)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trajectory": None}, "lacks trajectory"),
        (
            {"schedule": None, "trajectory": None, "trajectory_grad_norm": None},
            "lacks schedule, trajectory, ",
        ),
        ({"lr_scale": np.ones(384)}, "no rule to check lr_scale"),
        ({"mask_ratio": 0.01}, "mask ratio 0.01 of 16 units leaves no masked token"),
        ({"temperature": 0.0}, "temperature 0.0 is not above 0"),
        ({"train": {"lr": 1.0}}, "config.train lacks betas, epochs, min_lr"),
    ],
)
def test_pretraining_files_of_another_form_are_refused(tmp_path, changes, message):
    golden = golden_cases.load(GOLDENS / "pretrain_micro.npz")
    if changes.keys() & (golden.config.keys()):
        changes = {"config": golden.config | changes}
    np.savez(tmp_path / "a.npz", **content_of(golden, **changes))
    with pytest.raises(golden_cases.GoldenError, match=message):
        golden_cases.load(tmp_path / "a.npz")


def test_crops_without_their_boxes_are_refused(tmp_path):
    golden = golden_cases.load(GOLDENS / "crop_resize.npz")
    for changes in ({"boxes": golden.arrays["boxes"][1:]}, {"resized": None}, {"other": np.ones(2)}):
        np.savez(tmp_path / "a.npz", **content_of(golden, **{"config": None} | changes))
        with pytest.raises(golden_cases.GoldenError, match="of no known kind"):
            golden_cases.load(tmp_path / "a.npz")


@pytest.mark.parametrize(("name", "data"), [("none.npz", None), ("a.npz", b"no zip"), ("b.npz", b"")])
def test_unreadable_files_are_one_clear_line(tmp_path, capsys, name, data):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    assert run(str(tmp_path / name)) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / name) in error
    assert len(error.splitlines()) == 1


def test_pytorch_has_no_preprocessing(capsys):
    assert run(str(GOLDENS / "log_mel.npz"), "--torch") == 2
    assert "leave out --torch" in capsys.readouterr().err


def test_the_command_takes_files():
    with pytest.raises(app.UsageError, match=r"name golden \.npz files"):
        run()


def test_the_command_checks_every_file_and_exits_with_the_worst_code(capsys):
    merging, absent = str(GOLDENS / "merging.npz"), str(GOLDENS / "absent.npz")
    assert run(merging, merging) == 0
    assert capsys.readouterr().out.count("11 of 11 within tolerance") == 2
    assert run(absent, merging) == 2
    shown = capsys.readouterr()
    assert "absent.npz: no such file" in shown.err
    assert "11 of 11 within tolerance" in shown.out


def test_both_sides_rebuild_the_same_case():
    golden = golden_cases.load(GOLDENS / "pretrain_micro.npz")
    *_, video_mask, audio_mask = golden_jax.pretrain_inputs(golden, step=3)
    of_torch = [golden_torch.indices(mask) for mask in golden.masks(step=3)]
    for mask, (visible, masked) in zip((video_mask, audio_mask), of_torch):
        np.testing.assert_array_equal(mask.visible, visible)
        np.testing.assert_array_equal(mask.masked, masked)
