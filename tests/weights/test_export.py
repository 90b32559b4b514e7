"""Exported weights have the published names, and the comparison with PyTorch notices a difference."""

import errno
import os
import pathlib
import re
import sys

import numpy as np
import pytest
import torch
from etils import epath
from etils.epath.gpath import PosixGPath

from data_pipeline.common.errors import CommandError
from hicmae_jax.weights import files as weight_files
from hicmae_jax.weights import parity, torch_model, torch_names
from hicmae_jax.weights.export import export, export_folder
from tests.support import exported_folders, finetune_fixtures, run_fixtures
from tests.support.golden_torch import config_of
from tests.support.run_fixtures import run_module

# Another size of picture, clip and spectrogram than the default, scanned encoders and another wiring.
CHOICES = {
    "scan_encoders": True,
    "image_size": 48,
    "frames": 6,
    "audio_frames": 48,
    "fusion_flow": "raw-input",
}


@pytest.fixture(scope="module")
def config():
    return run_fixtures.config("unused", **CHOICES)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return run_fixtures.write_run(tmp_path_factory.mktemp("run"), config, steps=(3, 5))


def command(*arguments):
    return run_module("launch.export", *arguments)


def test_an_exported_run_gives_the_same_numbers_in_pytorch(run, config, tmp_path):
    done = command(f"--run={run}", f"--output={tmp_path / 'weights.safetensors'}", "--check")
    assert done.returncode == 0, done.stderr
    shares = [float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert len(shares) == 7
    assert 0 < max(shares) <= 1
    state = weight_files.read(tmp_path / "weights.safetensors")
    expected = torch_names.state_dict(run_fixtures.parameters(config, step=5))
    assert state.keys() == torch_model.PretrainModel(config_of(config.model)).state_dict().keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


def test_another_step_as_a_pth_file(run, config, tmp_path, capsys):
    export(str(run), 3, epath.Path(tmp_path / "weights.pth"), check=False)
    assert "weights.pth" in capsys.readouterr().out
    state = torch.load(tmp_path / "weights.pth", weights_only=True)["model"]
    for name, value in torch_names.state_dict(run_fixtures.parameters(config, step=3)).items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


def test_a_changed_weight_is_a_disagreement(config):
    model, loss = config.model, config.loss
    params = run_fixtures.parameters(config, step=3)
    state = torch_names.state_dict(params)
    spoilt = state | {"encoder_audio.norm.weight": state["encoder_audio.norm.weight"] * np.float32(1.01)}
    clips = parity.random_clips(model, config.masks)
    here = parity.compute_here(params, clips, model, loss, config.execution)
    agreed, disagreed = (
        parity.disagreements(here, parity.compute_there(weights, clips, model, loss))
        for weights in (state, spoilt)
    )
    assert max(agreed.values()) <= 1
    assert disagreed["audio"] > 1


def test_values_that_are_not_finite_never_agree():
    one, nan = np.array([1.0, 2.0]), np.array([np.nan, 2.0])
    assert parity.disagreements({"x": one}, {"x": one}) == {"x": 0}
    assert parity.disagreements({"x": nan}, {"x": nan}) == {"x": np.inf}
    assert parity.disagreements({"x": one}, {"x": nan}) == {"x": np.inf}


def test_a_disagreement_gives_exit_code_2_and_no_file(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "worst_disagreements", lambda *_: {"video": 0.1, "audio": 1.1})
    output = tmp_path / "weights.safetensors"
    with pytest.raises(
        CommandError, match=rf"PyTorch disagrees about {output}, which was not written"
    ) as error:
        export(str(run), 3, epath.Path(output), check=True)
    assert error.value.code == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
@pytest.mark.parametrize("failing", ["write", "rename", "check", "interrupted check"])
def test_a_failed_export_leaves_nothing_and_names_the_file(run, tmp_path, monkeypatch, name, failing):
    """On the disk, and while PyTorch compares; what lies there from before stays."""
    (tmp_path / "older.pth").write_text("kept")
    full = OSError(errno.ENOSPC, "No space left on device")
    error = KeyboardInterrupt() if failing == "interrupted check" else full

    def fail(self, *arguments, **options):
        if failing == "write":
            pathlib.Path(self).touch()
        raise error

    where = {"write": (PosixGPath, "write_bytes"), "rename": (PosixGPath, "replace")}
    monkeypatch.setattr(*where.get(failing, (parity, "worst_disagreements")), fail)
    with pytest.raises(type(error)) as raised:
        export(str(run), 3, epath.Path(tmp_path / name), check="check" in failing)
    if error is full:
        assert str(raised.value) == f"--output={tmp_path / name} was not written: No space left on device"
    assert os.listdir(tmp_path) == ["older.pth"]


def test_what_a_killed_export_has_left_is_no_obstacle(run, tmp_path):
    (tmp_path / ".weights.partial.safetensors").write_text("half")
    export(str(run), 3, epath.Path(tmp_path / "weights.safetensors"), check=False)
    assert os.listdir(tmp_path) == ["weights.safetensors"]


def test_bad_input_is_one_line_and_nothing_is_overwritten(run, tmp_path):
    output = tmp_path / "weights.safetensors"
    output.write_text("kept")
    done = command(f"--run={run}", f"--output={output}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == f"export: --output={output} exists: delete it or give another name"
    assert output.read_text() == "kept"


@pytest.mark.parametrize(
    ("step", "name", "message"),
    [
        (4, "a.pth", "holds no checkpoint of step 4; it holds those of 3, 5"),
        (None, "a.bin", r"does not end in \.safetensors, \.pth, \.pt"),
        (None, "none/a.pth", "there is no directory"),
    ],
)
def test_impossible_exports_are_refused(run, tmp_path, step, name, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export(str(run), step, epath.Path(tmp_path / name), check=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "check"), [("a.pth", False), ("a.safetensors", True)])
def test_a_missing_pytorch_is_reported_before_anything_is_read(tmp_path, monkeypatch, name, check):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"need PyTorch: pip install 'hicmae_jax\[torch\]'"):
        export("no run", None, epath.Path(tmp_path / name), check)


def test_the_best_checkpoint_as_a_file(tmp_path):
    labelled = finetune_fixtures.write_labelled_set(tmp_path / "labelled", n_clips=12)
    settings = finetune_fixtures.config(labelled)
    fold = finetune_fixtures.write_run(tmp_path / "fold", settings, steps=(3, 5), best=3)
    for best, step in ((True, 3), (False, 5)):
        path = tmp_path / f"{step}.safetensors"
        export(str(fold), None, epath.Path(path), check=False, best=best)
        expected = torch_names.state_dict(finetune_fixtures.parameters(settings, step))
        np.testing.assert_array_equal(weight_files.read(path)["head.weight"], expected["head.weight"])
    with pytest.raises(ValueError, match="--best and --step=3 are both given: leave one out"):
        export(str(fold), 3, epath.Path(tmp_path / "both.pth"), check=False, best=True)


def test_a_folder_needs_pytorch_and_a_new_name(tmp_path, monkeypatch):
    with pytest.raises(FileExistsError, match=f"--output={tmp_path} exists: delete it or give another name"):
        export_folder("no run", None, epath.Path(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"a folder, .* need PyTorch: pip install 'hicmae_jax\[torch\]'"):
        export_folder("no run", None, epath.Path(tmp_path / "new"))


@pytest.mark.slow
def test_the_command_lists_the_files_of_a_folder(tmp_path):
    labelled = finetune_fixtures.write_labelled_set(tmp_path / "labelled", n_clips=12)
    fold = finetune_fixtures.write_run(tmp_path / "fold-1", finetune_fixtures.config(labelled))
    exported_folders.write_scores(fold)
    done = command(f"--run={fold}", f"--output={tmp_path / 'folder'}", "--best")
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" bytes")}
    assert listed == set(os.listdir(tmp_path / "folder"))
    assert "  logits  " in done.stdout
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "12 clips of 4 speakers" in card
    assert re.search(r"\| UAR \| 61\.00 \[\d", card)
