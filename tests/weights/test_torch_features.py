"""Features, scores, compilation, and saving with the PyTorch file."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from hicmae_jax.model.config import FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.preprocessing.missing import hide
from hicmae_jax.weights import parity, torch_model, torch_names
from hicmae_jax.weights.torch_model import Config, HiCMAE, Task
from tests.support import tiny_model
from tests.support.golden_torch import config_of

CONFIG = tiny_model.model_config()
TINY = config_of(CONFIG)
LABELS = ("calm", "happy", "sad")


def clips(batch=2):
    video, log_mel = parity.noise(CONFIG, clips=batch)
    return torch.from_numpy(np.array(video)), torch.from_numpy(np.array(log_mel))


def model(task=None, **options):
    torch.manual_seed(0)
    return HiCMAE(TINY, task, **options).eval()


# --- Features -----------------------------------------------------------------------------------------------


def test_features_of_both_modalities_and_of_one():
    video, log_mel = clips()
    twin = model()
    both = twin.extract_features(video, log_mel)
    assert {layer: tuple(x.shape) for layer, x in both.video.items()} == dict.fromkeys((1, 2, 3), (2, 8, 32))
    assert {layer: tuple(x.shape) for layer, x in both.audio.items()} == dict.fromkeys((1, 2, 3), (2, 4, 32))
    torch.testing.assert_close(both.video_pooled[2], both.video[2].mean(1))
    torch.testing.assert_close(both.fused_audio_pooled, both.fused_audio.mean(1))
    sight, sound = twin.extract_features(video, None), twin.extract_features(None, log_mel)
    torch.testing.assert_close(sight.video[3], both.video[3])
    torch.testing.assert_close(sound.audio_pooled[1], both.audio_pooled[1])
    for one in (sight, sound):
        assert one.fused_video is one.fused_audio is one.fused_video_pooled is None
    assert sight.audio is sound.video is None
    assert not both.fused_video.requires_grad


def test_times_of_tokens():
    """Tokens are in the order of time, so a slice of tubelets or a column of patches has one time."""
    features = model(stride=5).extract_features(*clips())
    np.testing.assert_allclose(features.video_times, [[0, 0.4]] * 4 + [[0.4, 0.8]] * 4)
    np.testing.assert_allclose(features.audio_times, [[0, 0.16]] * 2 + [[0.16, 0.32]] * 2)
    published = torch_model.token_times(Config())
    assert [len(times) for times in published] == [800, 128]
    assert [times.max().item() for times in published] == pytest.approx([2.56, 2.56])


def test_a_change_of_one_frame_reaches_the_tokens_of_its_time_first():
    video, _ = clips()
    changed = video.clone()
    changed[:, 3] = 255 - changed[:, 3]
    encoder = model().encoder
    patches = [torch_model.pixels(torch_model.tubelets(x, TINY)) for x in (video, changed)]
    encoder.blocks = torch.nn.ModuleList([torch.nn.Identity()])
    one, two = (encoder(x, {1})[1] for x in patches)
    differs = (one != two).any(-1).any(0)
    begins = torch_model.token_times(TINY)[0][:, 0]
    assert torch.equal(differs, begins == begins.max())


def test_modalities_that_a_model_lacks_are_refused():
    video, log_mel = clips()
    deaf = model(Task(LABELS, "video"))
    assert deaf.extract_features(video, None).fused_video is None
    with pytest.raises(ValueError, match="video and audio was given; this model encodes video"):
        deaf.extract_features(video, log_mel)
    with pytest.raises(ValueError, match="nothing was given; this model encodes video and audio"):
        model().extract_features(None, None)
    with pytest.raises(ValueError, match="modality video needs video, which was not given"):
        deaf(None, log_mel)
    torch.testing.assert_close(deaf(video, None), deaf(video, log_mel))


# --- Scores -------------------------------------------------------------------------------------------------


def test_scores_are_probabilities_with_names():
    video, log_mel = clips()
    tuned = model(Task(LABELS))
    scores = tuned.scores(video, log_mel)
    assert scores.labels == LABELS
    torch.testing.assert_close(scores.values, tuned(video, log_mel).softmax(-1))
    regression = model(Task(LABELS, regression=True))
    torch.testing.assert_close(regression.scores(video, log_mel).values, regression(video, log_mel))
    with pytest.raises(ValueError, match="a pre-training model has no head"):
        model().scores(video, log_mel)
    with pytest.raises(ValueError, match="needs both masks: for features, call extract_features"):
        model()(video, log_mel)


@pytest.mark.parametrize("missing", ["video", "audio"])
def test_a_missing_modality_is_hidden_as_in_training(missing):
    video, log_mel = clips()
    tuned = model(Task(LABELS))
    state = {name: value.numpy() for name, value in tuned.state_dict().items()}
    twin = HiCMAEFinetune(CONFIG, FinetuneConfig(outputs=3))
    template = jax.eval_shape(twin.init, jax.random.key(0), video.numpy(), log_mel.numpy())["params"]
    params = torch_names.parameters(state, template)
    flags = (jnp.full(2, name == missing) for name in ("video", "audio"))
    hidden = hide(jnp.asarray(video.numpy()), jnp.asarray(log_mel.numpy()), *flags)
    expected = jax.nn.softmax(twin.apply({"params": params}, *hidden).logits)
    given = (None, log_mel) if missing == "video" else (video, None)
    np.testing.assert_allclose(tuned.scores(*given).values, expected, rtol=1e-4, atol=1e-6)


# --- Compilation --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("task", [Task(LABELS), Task(LABELS, "audio", feature_fusion=False)])
def test_torch_export_of_any_number_of_clips(task):
    video, log_mel = clips(3)
    tuned = model(task)
    batch = torch.export.Dim("batch", min=2, max=64)
    takes_video = task.modality != "audio"
    shapes = {"video": {0: batch} if takes_video else None, "log_mel": {0: batch}}
    arguments = (video if takes_video else None, log_mel)
    exported = torch.export.export(tuned, arguments, dynamic_shapes=shapes, strict=False).module()
    for count in (2, 3):
        fewer = tuple(None if clip is None else clip[:count] for clip in arguments)
        torch.testing.assert_close(exported(*fewer), tuned(*fewer))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_torch_compile_of_a_finetuned_model_makes_one_graph():
    tuned = model(Task(LABELS))
    compiled = torch.compile(tuned, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*clips()), tuned(*clips()))


# --- Folders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [None, Task(LABELS, "video", False, 0.2, True)])
def test_a_saved_model_is_the_same(tmp_path, task):
    one = model(task, stride=7, frame_difference=False)
    one.save_pretrained(tmp_path / "new" / "folder")
    two = HiCMAE.from_pretrained(tmp_path / "new" / "folder")
    assert (two.geometry, two.task, two.stride, two.frame_difference) == (TINY, task, 7, False)
    for (name, value), (other, read) in zip(one.state_dict().items(), two.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(value, read)
    assert all(parameter.requires_grad for parameter in two.parameters())
    for name, buffer in one.named_buffers():
        assert torch.equal(buffer, two.get_buffer(name)), name
    with pytest.raises(FileExistsError, match=r"has a config\.json: choose another folder"):
        one.save_pretrained(tmp_path / "new" / "folder")


def test_without_safetensors_the_checkpoint_is_read(tmp_path, monkeypatch):
    model().save_pretrained(tmp_path / "both")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    HiCMAE.from_pretrained(tmp_path / "both")
    (tmp_path / "both" / "checkpoint.pth").unlink()
    with pytest.raises(ValueError, match=r"no checkpoint\.pth there: pip install safetensors"):
        HiCMAE.from_pretrained(tmp_path / "both")
    model().save_pretrained(tmp_path / "one")
    assert not (tmp_path / "one" / "model.safetensors").exists()
    HiCMAE.from_pretrained(tmp_path / "one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "its model_type is not hicmae"),
        ({"encoder_depth": 4, "skip_layers": [1, 3]}, r"Missing key\(s\) in state_dict"),
        ({"encoder_heads": 5}, "encoder_dim is no multiple of encoder_heads"),
        ({"stride": "drop"}, "it has no 'stride': export the folder again"),
    ],
)
def test_a_wrong_folder_is_one_line(tmp_path, change, message):
    model().save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text()) | change
    written = {name: value for name, value in written.items() if value != "drop"}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match=message) as raised:
        HiCMAE.from_pretrained(tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"is no folder of weights: it has no config\.json"):
        HiCMAE.from_pretrained(tmp_path / "none")


def test_push_to_hub_uploads_a_folder_that_loads(tmp_path, monkeypatch):
    calls = []

    def upload(repo_id, folder_path):
        HiCMAE.from_pretrained(folder_path)
        calls.append(("upload", repo_id))

    stand_in = types.ModuleType("huggingface_hub")
    stand_in.create_repo = lambda repo_id, exist_ok: calls.append(("create", repo_id, exist_ok))
    stand_in.upload_folder = upload
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    model().push_to_hub("someone/hicmae")
    assert calls == [("create", "someone/hicmae", True), ("upload", "someone/hicmae")]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="push_to_hub needs huggingface_hub: pip install huggingface_hub"):
        model().push_to_hub("someone/hicmae")
