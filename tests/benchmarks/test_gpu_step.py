"""The comparison with PyTorch: what both sides compute, what it writes, when it refuses, what it needs."""

import dataclasses
import json
import os
import subprocess
import sys
import tomllib

import pytest
import torch

from benchmarks import gpu_step
from benchmarks.step_speed import measure, report
from benchmarks.step_speed.boolean_masks import BooleanMaskModel
from benchmarks.step_speed.cases import MASKS, SIDES, Case, model_of
from hicmae_jax.weights import parity
from hicmae_jax.weights.torch_model import PretrainModel, pretrain_loss
from tests.support.paths import ROOT

NEEDED = {"jax", "flax", "optax", "numpy", "absl-py"}
"""Dependencies of the project that the benchmark may use; Optax itself needs absl-py."""
STEP = {"total": 2.9, "video": 1.6, "audio": 1.3, "contrastive": 2.2, "gradient norm": 1.1}
ABOUT = {"version": "1", "platform": "cpu", "device": "cpu"}


# --- What is compared ---------------------------------------------------------------------------------------


def test_boolean_masks_compute_the_same_loss_and_gradient():
    model = dataclasses.replace(model_of("mu"), image_size=64, frames=4, audio_frames=64)
    torch.manual_seed(0)
    plain = PretrainModel(parity.torch_config(model))
    boolean = BooleanMaskModel(parity.torch_config(model))
    boolean.load_state_dict(plain.state_dict())
    clips = parity.random_clips(model, MASKS, clips=2)
    video, log_mel = (torch.tensor(array.__array__()) for array in (clips.video, clips.log_mel))
    indices, booleans = [], []
    for mask, count in ((clips.video_mask, model.video_tokens), (clips.audio_mask, model.audio_tokens)):
        visible, masked = (torch.tensor(array.__array__()).long() for array in mask)
        indices.append((visible, masked))
        booleans.append(torch.zeros((2, count), dtype=torch.bool).scatter_(1, masked, True))
    for twin, masks in ((plain, indices), (boolean, booleans)):
        pretrain_loss(twin(video, log_mel, *masks))["total"].backward()
    for (name, one), other in zip(plain.named_parameters(), boolean.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.slow
def test_all_sides_agree_and_the_figures_are_complete(tmp_path):
    file = tmp_path / "figures.json"
    words = ("--size=mu", "--batch=2", f"--sides={','.join(SIDES)}", "--windows=2", "--seconds=0.01")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_step", *words, f"--json={file}"],
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1"},  # torch.compile takes ten minutes on a CPU
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text(encoding="utf-8"))
    (case,) = figures["cases"]
    assert set(case["results"]) == set(SIDES)
    assert (case["size"], case["batch"], case["dtype"]) == ("mu", 2, "float32")
    assert done.stdout.splitlines() == list(report.lines(case))
    for result in case["results"].values():
        assert set(result["about"]) >= set(ABOUT)
        assert [set(step) for step in result["checked"]] == [set(STEP)] * measure.CHECKED_STEPS
        assert len(result["clips_per_second_each"]) == 2
        assert min(result["clips_per_second_each"]) <= result["clips_per_second"]
        assert result["share_of_matmul"] > 0
        assert result["share_of_datasheet"] is None
        assert result["peak_bytes"] > 1e8
    first, second = case["results"]["jax"]["checked"]
    assert second["total"] != pytest.approx(first["total"], rel=1e-3)  # the update has an effect


# --- When it refuses ----------------------------------------------------------------------------------------


def results(**changes):
    """Two sides that agree, but for changes of the second step of PyTorch."""
    own = [STEP, STEP | changes]
    return {"jax": {"about": ABOUT, "checked": [STEP, STEP]}, "eager": {"about": ABOUT, "checked": own}}


@pytest.mark.parametrize("term", sorted(STEP))
def test_a_difference_in_any_value_is_found(term):
    measure.check_agreement(results(**{term: STEP[term] * (1 + 5e-5)}), "float32")
    with pytest.raises(measure.DisagreementError, match=f"^step 2: {term} is .* in eager and .* in jax"):
        measure.check_agreement(results(**{term: STEP[term] * (1 + 2e-4)}), "float32")
    with pytest.raises(measure.DisagreementError, match="nan"):
        measure.check_agreement(results(**{term: float("nan")}), "float32")


def test_a_disagreement_ends_the_command_with_one_line(tmp_path, monkeypatch, capsys):
    def disagree(*_):
        measure.check_agreement(results(total=3.0), "float32")

    monkeypatch.setattr(gpu_step, "measure", disagree)
    monkeypatch.setattr(sys, "argv", ["gpu_step", "--size=mu", f"--json={tmp_path / 'figures.json'}"])
    assert gpu_step.main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("gpu_step: step 2: total is 3 in eager and 2.9 in jax")
    assert len(printed.err.splitlines()) == 1
    assert not (tmp_path / "figures.json").exists()


def test_a_gpu_is_not_compared_with_a_cpu():
    mixed = results()
    measure.check_devices(mixed)
    mixed["eager"]["about"] = ABOUT | {"platform": "gpu"}
    with pytest.raises(measure.DisagreementError, match="jax computes on cpu, eager computes on gpu"):
        measure.check_devices(mixed)


def test_a_side_that_fails_is_noted_and_the_others_are_measured(monkeypatch):
    class Fake:
        """A child that answers at once; PyTorch has no memory for its first window."""

        def __init__(self, name, case, directory):
            self.name = name
            self.asked = []

        def send(self, method, *arguments):
            self.asked.append(method)

        def answer(self):
            method = self.asked.pop(0)
            if method == "window" and self.name == "strong":
                raise measure.SideError("out of memory")
            return {"about": ABOUT, "check": [STEP], "window": 0.5, "peak_bytes": 1, "matmul_rate": 1e15}[
                method
            ]

        def end(self):
            ended.append(self.name)

    ended = []
    monkeypatch.setattr(measure, "Child", Fake)
    for apart in (False, True):
        case = Case("mu", 2, ("jax", "strong"), "bfloat16", apart=apart)
        (figures,) = measure.measure([case], windows=3, seconds=1.0)
        assert figures["results"]["strong"]["error"] == "out of memory"
        assert figures["results"]["jax"]["clips_per_second_each"] == [2 * 2 / 0.5] * 3
        assert list(report.lines(figures))[2].split(maxsplit=1) == ["strong", "out of memory"]
    assert sorted(ended) == ["jax", "jax", "strong", "strong"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size=XL"], "choose from"),
        (["--sides=jax,lightning"], "lightning: choose from jax"),
        (["--sides=eager"], "jax comes first"),
        (["--batch=8"], "--batch needs --size"),
        (["--size=T", "--batch=0"], "0 is not at least 1"),
        (["--json=nowhere/figures.json"], "there is no directory nowhere"),
    ],
)
def test_a_wrong_command_line_is_one_line(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_step", *words])
    with pytest.raises(SystemExit, match="1"):
        gpu_step.main()
    line = capsys.readouterr().err
    assert line.startswith("gpu_step: ")
    assert message in line
    assert line.count("\n") == 1


# --- What it needs ------------------------------------------------------------------------------------------


def test_it_needs_only_jax_flax_optax_numpy_and_pytorch():
    """A machine for measuring may lack every package for data, checkpoints and commands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {requirement.split("[")[0].split(">")[0] for requirement in project["dependencies"]} - NEEDED
    refused = {name.replace("-", "_") for name in names} | {"orbax", "importlib_resources"}
    assert {"grain", "av", "tensorflow_datasets", "ml_collections", "etils"} <= refused
    script = f"""
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import benchmarks.gpu_step
from benchmarks.step_speed import child, jax_side, torch_side
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
