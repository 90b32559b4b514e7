"""cuDNN's attention: each place of the model calls it, and on a GPU it has XLA's values and gradients."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from hicmae_jax.model import attention, shapes
from hicmae_jax.model.attention import attend
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import pretrain_loss
from hicmae_jax.training import chips
from tests.support import cuda, tiny_model
from tests.support.trees import assert_trees_close

CHECK = "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version"
FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"


@pytest.fixture
def cudnn_is_installed(monkeypatch):
    """JAX asks for the version of cuDNN when it traces a call, though the program may run elsewhere."""
    monkeypatch.setattr(CHECK, lambda: 91000)


def calls(text):
    """Shapes of (queries, keys) of the forward calls, and of the backward calls, in a program for CUDA."""
    found = re.findall(
        r"custom_call @(__cudnn\$\w+)\(.*?\) \{.*?\} : \(tensor<(\S+?)xbf16>, tensor<(\S+?)xbf16>", text
    )
    return [sorted(pair[1:] for pair in found if pair[0] == name) for name in (FORWARD, BACKWARD)]


def lowered(execution, batch=4):
    """The gradient of the smallest model as a program for CUDA, which needs no plugin."""
    config = tiny_model.model_config(decoder_dim=32)
    parameters = shapes.abstract_parameters(config, tiny_model.MASKS, execution)
    inputs = shapes.abstract_inputs(config, tiny_model.MASKS, batch)

    def loss(params, inputs):
        return pretrain_loss(HiCMAE(config, execution), params, inputs, LossConfig(negatives="global"))

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return gradient.trace(parameters, inputs).lower(lowering_platforms=("cuda",)).as_text()


def test_every_attention_of_the_model_is_a_call_of_cudnn(cudnn_is_installed):
    """2 heads of 16 channels; 4 visible and 4 masked tokens of video, 2 and 2 of audio, a batch of 4."""
    forward, backward = calls(lowered(ExecutionConfig(dtype="bfloat16", attention="cudnn")))
    video, audio, all_video, all_audio = (f"4x{tokens}x2x16" for tokens in (4, 2, 8, 4))
    encoders = [*[(video, video)] * 3, *[(audio, audio)] * 3]
    fusion = [(video, audio), (video, video), (audio, video), (audio, audio)]
    # Two skips; in the last block of a decoder only the masked tokens attend.
    decoders = [
        *[(all_video, all_video)] * 2,
        *[(all_audio, all_audio)] * 2,
        *[(all_video, video), (all_audio, audio)] * 2,
        *[(video, all_video), (audio, all_audio)],
    ]
    assert forward == sorted(encoders + fusion + decoders)
    assert backward == forward


@pytest.mark.slow
def test_recomputed_attention_calls_the_forward_kernel_again(cudnn_is_installed):
    plain = ExecutionConfig(dtype="bfloat16", attention="cudnn")
    remat = ExecutionConfig(dtype="bfloat16", attention="cudnn", remat_decoder="full")
    forward, _ = calls(lowered(plain))
    again, backward = calls(lowered(remat))
    assert len(again) == len(forward) + 10  # three blocks and two skips in each decoder
    assert backward == forward


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("9.0", "cuda"), ("8.0", "cuda"), ("10.0", "cuda"), ("7.5", "gpu"), ("gfx942", "gpu"), (None, "gpu")],
)
def test_which_gpus_have_it(capability, expected):
    device = type("Device", (), {"platform": "gpu", "compute_capability": capability})()
    assert chips.platform(device) == expected


def test_other_devices_have_their_own_name():
    assert chips.platform(jax.devices()[0]) == "cpu"


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (
            16,
            r"attention here \(cuDNN is not detected\.\): set execution\.attention = 'xla'",
        ),
        (
            12,
            r"attention here \(The head dim must be .* but got 12\.\): set execution\.attention",
        ),
    ],
)
def test_what_cudnn_cannot_compute_is_one_line(monkeypatch, channels, message):
    def version():
        if channels == 16:
            raise RuntimeError("cuDNN is not detected.")
        return 91000

    monkeypatch.setattr(CHECK, version)
    projections = jnp.zeros((1, 4, 3 * 2 * channels), jnp.bfloat16)
    bias = jnp.zeros(2 * channels, jnp.bfloat16)
    with pytest.raises(RuntimeError, match=message):
        attend([projections], bias, bias, 2, "cudnn")


@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
def test_all_else_that_gpus_compute_otherwise_has_the_loss_and_gradients_of_xla(monkeypatch, scan):
    """Blocks, LayerNorm and the written-out loop of the encoders, in float32 on a CPU, with XLA attention."""
    monkeypatch.setattr(attention, "_by_cudnn", jax.nn.dot_product_attention)
    config = tiny_model.model_config(decoder_dim=32)
    inputs = tiny_model.inputs(config)

    def loss_and_gradient(kind):
        execution = ExecutionConfig(attention=kind, scan_encoders=scan)
        params = tiny_model.parameters(config, execution=execution)

        def loss(params):
            return pretrain_loss(HiCMAE(config, execution), params, inputs, LossConfig(negatives="global"))

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    (total, terms), gradient = loss_and_gradient("cudnn")
    (expected, expected_terms), expected_gradient = loss_and_gradient("xla")
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    assert_trees_close(terms, expected_terms, 1e-5)
    assert_trees_close(gradient, expected_gradient, 1e-5)


@pytest.mark.slow
@cuda.needs_gpu
def test_values_and_gradients_on_a_gpu_are_those_of_xla_within_rounding():
    command = [sys.executable, "-m", "tests.support.compare_attention", "cudnn"]
    done = subprocess.run(command, capture_output=True, text=True, env=cuda.environment())
    assert done.returncode == 0, done.stdout + done.stderr
