"""The step of mu on two H200: as `launch.aot --text` wrote it (strip.py), and as it is compiled now."""

import collections
import json
import lzma
import subprocess
import sys

import pytest

from configs import pretrain as recipe
from hicmae_jax.aot.hlo.collectives import collectives
from hicmae_jax.aot.hlo.program import parse
from hicmae_jax.aot.hlo.traffic import Walk
from hicmae_jax.model.flops import flops
from hicmae_jax.settings import pretrain as run_config
from tests.support import cuda
from tests.support.paths import ROOT

PROGRAM = ROOT / "tests/aot/step_mu_h200.hlo.xz"
CLIPS = 16  # on each GPU
COMMAND = (
    *(sys.executable, "-m", "launch.aot", "--config=pretrain:mu", "--config.batch=32"),
    *("--config.loss.negatives=global", "--topology=h200:1x2"),
)


@pytest.fixture(scope="module")
def walked():
    with lzma.open(PROGRAM, "rt") as file:
        walk = Walk(parse(file.read()))
    executed = list(walk)
    assert walk.unknown_loops == []
    return executed


def expected_flops(config):
    """Of a clip: what the model needs, what cuDNN computes again, and the products of the preprocessing."""
    model, masks = config.model, config.masks
    (video, video_masked), (audio, audio_masked) = masks.sizes(model)
    width, decoder = model.encoder_dim, model.decoder_dim
    # cuDNN's backward pass computes the scores again.
    scores = model.encoder_depth * (video**2 + audio**2) * width
    scores += model.fusion_depth * (video + audio) ** 2 * width
    for visible, masked in ((video, video_masked), (audio, audio_masked)):
        tokens = visible + masked
        rows = (model.decoder_depth - 1) * tokens + masked
        scores += (rows * tokens + len(model.decoder_skips) * tokens * visible) * decoder
    # Two resizings of every frame: rows, then columns.
    pixels = model.frames * model.image_size**2 * 3
    resizing = 2 * pixels * model.image_size
    # The spectrum of each frame of 400 samples, padded to 512, as real and imaginary part; then mel filters.
    spectrum = model.audio_frames * 257 * (2 * 400 + model.audio_bins)
    return sum(flops(model, masks).training.values()) + 2 * (scores + resizing + spectrum)


def test_all_operations_are_counted(walked):
    config = recipe.get_config("mu")
    config.data.sets = ("any",)
    found = sum(each.flops * each.times for each in walked) / CLIPS
    assert found == pytest.approx(expected_flops(run_config.from_config_dict(config, "cuda")), rel=1e-3)


def test_each_attention_is_one_call_forward_and_one_backward(walked):
    """Nothing is computed again; encoders, fusion, and the decoders' blocks with and without skips."""
    calls = collections.Counter()
    for each in walked:
        calls[each.instruction.target] += each.times
    places = 2 * 4 + 2 * 4 + 2 * (4 + 3)
    assert calls["__cudnn$fmhaSoftmax"] == calls["__cudnn$fmhaSoftmaxBackward"] == places


def test_gradients_are_summed_and_features_gathered_beside_other_work(walked):
    messages = collectives(walked)
    assert {message.kind for message in messages} == {"all-reduce", "all-gather"}
    assert all(message.asynchronous for message in messages)
    parameters = 1_159_040  # of mu, nearly all of them summed in bfloat16
    sent = sum(message.total for message in messages if message.kind == "all-reduce")
    assert 2 * parameters <= sent < 2.2 * parameters


@pytest.mark.slow
@cuda.needs_plugin
def test_the_compiler_gives_such_a_program(tmp_path, walked):
    file = tmp_path / "mu.json"
    done = subprocess.run([*COMMAND, f"--json={file}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert (found["chips"], found["clips_per_chip"], found["unknown_loops"]) == (2, CLIPS, [])
    assert 0 < found["hbm_per_chip"]["share"] < 1
    for name, stored in (
        ("flops_per_clip", sum(each.flops * each.times for each in walked) / CLIPS),
        ("hbm_bytes_per_clip", sum(each.moved.main * each.times for each in walked) / CLIPS),
        ("launches", sum(each.times for each in walked)),
    ):
        # Another version of the compiler may fuse otherwise.
        assert found[name] == pytest.approx(stored, rel=0.1), name
