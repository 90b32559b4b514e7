"""The folder of exported weights: its files, and the same numbers from each program that loads it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

import hicmae_jax as hj
from data_pipeline.common.errors import CommandError
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.weights import card, delivery, folder_parity, parity, torch_names
from hicmae_jax.weights.load import FinetunedWeights, Weights
from hicmae_jax.weights.trained import load_trained
from launch import export as command
from tests.support import exported_folders, finetune_fixtures, published_names

PYTHON = {"hicmae_torch.py", "modeling_hicmae.py", "configuration_hicmae.py"}
FILES = PYTHON | {
    *("model.safetensors", "checkpoint.pth", "config.json", "preprocessor_config.json"),
    *("README.md", "LICENSE", "SHA256SUMS"),
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return exported_folders.pretrained(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return exported_folders.tuned(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="module")
def here(pretrained, tuned, tmp_path_factory):
    """What this project computes of both models, and a file of the clips."""
    clips = parity.noise(pretrained[0].model)
    path = tmp_path_factory.mktemp("clips") / "clips.npz"
    np.savez(path, video=clips[0], log_mel=clips[1])
    found = {
        name: folder_parity.features_here(trained.params, *clips, trained.model)
        for name, (trained, _) in (("pretrained", pretrained), ("tuned", tuned))
    }
    model = HiCMAEFinetune(tuned[0].model, tuned[0].finetune)
    output = model.apply({"params": tuned[0].params}, *clips)
    found["tuned"] |= {"logits": output.logits, "scores": jax.nn.softmax(output.logits)}
    return found, path


# --- Files --------------------------------------------------------------------------------------------------


def test_the_files(pretrained, tuned):
    assert set(os.listdir(pretrained[1])) == FILES
    assert set(os.listdir(tuned[1])) == FILES | {"eval_results.yaml"}
    for _, folder in (pretrained, tuned):
        checked = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
        listed = subprocess.run(checked, cwd=folder, capture_output=True, text=True, check=True).stdout
        assert {line.split(":")[0] for line in listed.splitlines()} == set(os.listdir(folder)) - {
            "SHA256SUMS"
        }
        assert os.listdir(folder.parent).count(".folder.partial") == 0
        for name in PYTHON:
            source = (folder / name).read_text()
            assert not [
                line for line in source.splitlines() if line.startswith(("from hicmae", "import hicmae"))
            ]
        with safe_open(folder / "model.safetensors", "numpy") as file:
            metadata = file.metadata()
        assert {name: metadata[name] for name in ("format", "step")} == {"format": "pt", "step": "3"}
    assert metadata["run"] == "made_up/fold-1"


def test_config_json(pretrained, tuned):
    written = json.loads((tuned[1] / "config.json").read_text())
    assert written["model_type"] == "hicmae"
    assert written["id2label"] == {str(n): name for n, name in enumerate(finetune_fixtures.CLASSES)}
    assert written["label2id"]["SAD"] == 5
    assert (written["kind"], written["modality"], written["regression"]) == (
        "finetuned",
        "audio-visual",
        False,
    )
    assert json.loads((pretrained[1] / "config.json").read_text())["fusion_flow"] == "raw-input"
    clips = json.loads((tuned[1] / "preprocessor_config.json").read_text())
    assert (clips["frames"], clips["stride"], clips["image_size"], clips["sampling_rate"]) == (
        4,
        2,
        32,
        16_000,
    )


def test_the_card_says_what_the_run_has_recorded(pretrained, tuned):
    text = (tuned[1] / "README.md").read_text()
    about = yaml.safe_load(text.split("---")[1])
    assert about["license"] == "apache-2.0"
    assert (about["datasets"], about["metrics"]) == (["made_up"], ["UAR", "WAR"])
    for part in (
        "6 classes: ANG, DIS, FEA, HAP, NEU, SAD",
        "**fold 1** of 2 is the test part",
        "fingerprint `made_up12`",
        "the last epoch, which is also the best, chosen on speakers held out of the training part",
        "| UAR | 61.00 |",
        "12 clips, not 7,442",
        "| `seed` | 0 |",
        "arXiv 2401.05698",
        "model.scores(video, log_mel)",
    ):
        assert part in text, part
    assert "AUC" not in text
    plain = (pretrained[1] / "README.md").read_text()
    assert "model.extract_features(video, log_mel)" in plain
    assert "## Scores" not in plain
    assert "| `masks.video_ratio` | 0.5 |" in plain


def test_the_scores_are_those_of_the_checkpoint(tmp_path):
    labelled = finetune_fixtures.write_labelled_set(tmp_path / "labelled", n_clips=12)
    config = finetune_fixtures.config(labelled)
    fold = finetune_fixtures.write_run(tmp_path / "fold-1", config, steps=(2, 3, 5), best=3)
    exported_folders.write_scores(fold, last=5, best=3)
    test = card.TestClips(12, 4, "speaker", {"UAR": card.Interval(50.0, 80.0)})
    best = card.model_card(load_trained(fold, best=True), 1000, test)
    assert "12 clips of 4 speakers. The checkpoint is the best epoch, chosen on speakers" in best
    assert "| UAR | 71.00 [50.00, 80.00] |" in best
    (entry, _) = yaml.safe_load(card.results(load_trained(fold, best=True), test))
    assert entry["dataset"] == {"id": "made_up", "task_id": "UAR"}
    assert entry["value"] == 71
    assert "fold 1, best epoch, checkpoint of step 3, 95 % interval 50.00 to 80.00" in entry["notes"]
    last = card.model_card(load_trained(fold), 1000)
    assert "The checkpoint is the last epoch, which no score has chosen." in last
    between = load_trained(fold, step=2)
    assert "## Scores" not in card.model_card(between, 1000)
    assert card.results(between) == ""


def test_intervals_of_the_test_clips(tuned, monkeypatch):
    fold = tuned[1].parent / "made_up" / "fold-1"
    monkeypatch.setattr(command, "FLAGS", type("Flags", (), {"run": str(fold)}))
    test = command.test_clips(tuned[0])
    assert (test.clips, test.units, test.unit) == (12, 4, "speaker")
    assert set(test.intervals) >= {"UAR", "WAR", "AUC"}
    assert all(0 <= low <= high <= 100 for low, high in test.intervals.values())


def test_the_licence_is_that_of_the_project(tmp_path, monkeypatch):
    """In a checkout, and where the package is installed and has only its metadata."""
    own = delivery.licence()
    assert "Apache License" in own
    installed = tmp_path / "site" / "hicmae_jax" / "weights"
    monkeypatch.setattr(delivery, "HERE", installed)

    class File:
        name = "LICENSE"

        def locate(self):
            return Path(__file__).parents[2] / "LICENSE"

    monkeypatch.setattr(delivery.importlib.metadata, "files", lambda _: [File()])
    assert delivery.licence() == own
    monkeypatch.setattr(delivery.importlib.metadata, "files", lambda _: None)
    with pytest.raises(FileNotFoundError, match="is not installed: install the package again"):
        delivery.licence()


# --- Four programs ------------------------------------------------------------------------------------------

LOAD = """
import numpy as np, torch
from hicmae_torch import HiCMAE
clips = np.load(sys.argv[1])
video, log_mel = torch.from_numpy(clips["video"]), torch.from_numpy(clips["log_mel"])
model = HiCMAE.from_pretrained(sys.path[0])
assert not model.training
features = model.extract_features(video, log_mel)
layers = {"video layers": features.video_pooled, "audio layers": features.audio_pooled}
found = {name: torch.stack([*of.values()]) for name, of in layers.items()}
found |= {"fused video": features.fused_video, "fused audio": features.fused_audio}
if model.task is not None:
    with torch.no_grad():
        found |= {"logits": model(video, log_mel), "scores": model.scores(video, log_mel).values}
    print(*model.scores(video, log_mel).labels)
np.savez(sys.argv[2], **{name: value.numpy() for name, value in found.items()})
"""


def assert_same_numbers(path, expected):
    with np.load(path) as found:
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("without", [(), ("safetensors",)])
def test_pytorch_alone_computes_the_same(pretrained, tuned, here, tmp_path, without):
    expected, clips = here
    for name, (_, folder) in (("pretrained", pretrained), ("tuned", tuned)):
        output = tmp_path / f"{name}.npz"
        printed = exported_folders.run_isolated(folder, LOAD, str(clips), str(output), without=without)
        assert_same_numbers(output, expected[name])
    assert printed.split() == list(finetune_fixtures.CLASSES)


def test_a_program_with_pytorch_alone_has_nothing_else(tuned):
    for name in ("jax", "hicmae_jax", "transformers"):
        with pytest.raises(AssertionError, match=f"No module named '{name}'"):
            exported_folders.run_isolated(tuned[1], f"import {name}")


WITH_TRANSFORMERS = """
import sys
import numpy as np, torch
from transformers import AutoConfig, AutoModel
sys.path.insert(0, sys.argv[2])
from hicmae_torch import HiCMAE
clips = np.load(sys.argv[1])
video, log_mel = torch.from_numpy(clips["video"]), torch.from_numpy(clips["log_mel"])
for folder in sys.argv[2:4]:
    ours = HiCMAE.from_pretrained(folder)
    theirs, loading = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(loading.values()), loading
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for model in (ours, theirs):
        model.save_pretrained(f"{folder}-{type(model).__name__}")
        again = [
            HiCMAE.from_pretrained(f"{folder}-{type(model).__name__}"),
            AutoModel.from_pretrained(f"{folder}-{type(model).__name__}", trust_remote_code=True),
        ]
        for other in (theirs, *again):
            one, two = ours.extract_features(video, log_mel), other.extract_features(video, log_mel)
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
assert AutoConfig.from_pretrained(sys.argv[3], trust_remote_code=True).id2label[5] == "SAD"
torch.testing.assert_close(ours.scores(video, log_mel).values, theirs.scores(video, log_mel).values)
"""


def test_transformers_computes_the_same(pretrained, tuned, here, tmp_path):
    """It loads the folder, and what either class saves again; this project loads that, too."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'hicmae_jax[hub]'")
    folders = []
    for name, (_, folder) in (("pretrained", pretrained), ("tuned", tuned)):
        shutil.copytree(folder, tmp_path / name)
        folders.append(str(tmp_path / name))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", WITH_TRANSFORMERS, str(here[1]), *folders],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for saved in ("tuned-HiCMAE", "tuned-HiCMAEModel"):
        assert hj.load(tmp_path / saved).labels == finetune_fixtures.CLASSES


def test_the_checkpoint_has_the_published_names(pretrained, tuned):
    published = {
        pretrained[1]: published_names.pretrain(32, 3, 1, 24, [False, True, True]),
        tuned[1]: published_names.finetune(32, 3, 1, 6),
    }
    for folder, names in published.items():
        content = torch.load(folder / "checkpoint.pth", weights_only=True)
        assert {name: tuple(value.shape) for name, value in content["model"].items()} == names


def test_this_project_loads_the_folder(pretrained, tuned):
    loaded = hj.load(pretrained[1])
    assert isinstance(loaded, Weights)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, pretrained[0].params)
    assert loaded.config == pretrained[0].model
    loaded = hj.load(tuned[1])
    assert isinstance(loaded, FinetunedWeights)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, tuned[0].params)
    assert loaded[1:] == (tuned[0].model, tuned[0].finetune, finetune_fixtures.CLASSES)
    found = load_trained(tuned[1])
    assert (found.stride, found.step, found.regression) == (2, 3, False)
    assert found.origin == f"{tuned[1]}, of step 3"
    with pytest.raises(ValueError, match="is a folder of exported weights, which has one step"):
        load_trained(tuned[1], step=3)


# --- Regressions and single modalities ----------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_folder_of_one_modality(tmp_path, modality):
    trained, folder = exported_folders.tuned(tmp_path, finetune__modality=modality)
    loaded = load_trained(folder)
    assert loaded.finetune.modality == modality
    jax.tree.map(np.testing.assert_array_equal, loaded.params, trained.params)


def test_a_folder_of_a_regression(tmp_path):
    labelled = finetune_fixtures.write_labelled_set(tmp_path / "labelled", n_clips=12)
    run = finetune_fixtures.write_run(tmp_path / "run", finetune_fixtures.config(labelled, "werewolf_xl"))
    delivery.deliver(load_trained(run), tmp_path / "folder")
    loaded = load_trained(tmp_path / "folder")
    assert (loaded.regression, loaded.labels) == (True, ("arousal", "valence", "dominance"))


# --- Errors -------------------------------------------------------------------------------------------------


def test_a_disagreement_gives_exit_code_2_and_no_folder(tuned, tmp_path, monkeypatch):
    """PyTorch loads other weights than those that it is compared with."""
    wrong = jax.tree.map(np.copy, tuned[0].params)
    wrong["encoder"]["norm"]["scale"] *= 1.01
    written = torch_names.state_dict
    monkeypatch.setattr(delivery.torch_names, "state_dict", lambda _, patch: written(wrong, patch))
    with pytest.raises(
        CommandError, match=r"PyTorch disagrees about .*; \S+/folder was not written"
    ) as error:
        delivery.deliver(tuned[0], tmp_path / "folder")
    assert error.value.code == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_export_leaves_nothing(tuned, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(delivery, "_write_sums", fail)
    with pytest.raises(type(error)) as raised:
        delivery.deliver(tuned[0], tmp_path / "folder")
    if isinstance(error, OSError):
        assert str(raised.value) == f"{tmp_path}/folder was not written: No space left on device"
    assert os.listdir(tmp_path) == []


def test_nothing_is_overwritten_and_leftovers_are_no_obstacle(tuned, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError, match="folder exists: delete it or give another name"):
        delivery.deliver(tuned[0], tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        delivery.deliver(tuned[0], tmp_path / "none" / "folder")
    (tmp_path / ".new.partial").mkdir()
    (tmp_path / ".new.partial" / "half").touch()
    delivery.deliver(tuned[0], tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["folder", "new"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "model_type is not hicmae"),
        ({"frames": None}, r"config\.json: "),
        ({"kind": "other"}, "or kind not one of pretraining, finetuned"),
    ],
)
def test_a_damaged_config_is_one_line(tuned, tmp_path, change, message):
    shutil.copytree(tuned[1], tmp_path / "folder")
    config = tmp_path / "folder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ValueError, match=message) as raised:
        hj.load(tmp_path / "folder")
    assert "\n" not in str(raised.value)
