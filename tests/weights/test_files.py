"""Weight files: both formats, published checkpoints, pickles that would run code, no PyTorch installed."""

import argparse
import collections
import os
import subprocess
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from hicmae_jax.weights import files as weight_files

STATE = {"encoder.norm.weight": np.arange(4, dtype=np.float32), "mask_token": np.ones((1, 1, 2), np.float32)}
TENSORS = {name: torch.tensor(value) for name, value in STATE.items()}


def published(**overrides):
    """A checkpoint as training scripts leave it: weights, command line, optimiser with NumPy numbers."""
    return {
        "model": TENSORS,
        "args": argparse.Namespace(lr=3e-4, model="pretrain_base", betas=[0.9, 0.95], output_dir=None),
        "epoch": 99,
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": np.float64(1e-5), "params": [0]}]},
        "scaler": {"scale": 65536.0},
        **overrides,
    }


def assert_same(actual):
    assert actual.keys() == STATE.keys()
    for name, value in STATE.items():
        np.testing.assert_array_equal(actual[name], value)


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
def test_round_trip(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    weight_files.write(path, STATE)
    assert_same(weight_files.read(path))
    assert os.listdir(tmp_path) == [path.name]


def test_other_libraries_read_what_is_written(tmp_path):
    weight_files.write(tmp_path / "a.pth", STATE)
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    assert content.keys() == {"model"}
    assert_same({name: value.numpy() for name, value in content["model"].items()})
    weight_files.write(tmp_path / "a.safetensors", STATE)
    assert_same(safetensors.numpy.load_file(tmp_path / "a.safetensors"))


def test_transposed_arrays_are_written_in_their_own_order(tmp_path):
    value = np.arange(6, dtype=np.float32).reshape(2, 3).T
    for name in ("a.pth", "a.safetensors"):
        weight_files.write(tmp_path / name, {"x": value})
        np.testing.assert_array_equal(weight_files.read(tmp_path / name)["x"], value)


@pytest.mark.parametrize(
    "content",
    [
        published(),
        TENSORS,
        {"module": TENSORS, "epoch": 3},
        {"state_dict": collections.OrderedDict(TENSORS), "arch": "pretrain_base"},
        {"model": "pretrain_base", "state_dict": TENSORS},
        {"model": TENSORS, "module": {"other": torch.ones(1)}, "state_dict": {"other": torch.ones(1)}},
        {"model": {}, "module": TENSORS},
        {"model": {f"module.{name}": value for name, value in TENSORS.items()}},
        {f"module.{name}": value for name, value in TENSORS.items()},
        {"state_dict": {f"module._orig_mod.{name}": value for name, value in TENSORS.items()}},
        {f"module.module.{name}": value for name, value in TENSORS.items()},
        {name: torch.nn.Parameter(value) for name, value in TENSORS.items()},
    ],
    ids=[
        "published",
        "bare",
        "module",
        "state_dict",
        "a model's name beside state_dict",
        "model before others",
        "an empty model",
        "distributed",
        "bare distributed",
        "compiled",
        "distributed twice",
        "parameters",
    ],
)
def test_published_layouts_are_read(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    assert_same(weight_files.read(tmp_path / "a.pth"))


def test_numbers_pickled_by_numpy_1_are_read(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(published(), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert b"numpy._core.multiarray\nscalar" in data
    path.write_bytes(data.replace(b"numpy._core.multiarray\nscalar", b"numpy.core.multiarray\nscalar"))
    assert_same(weight_files.read(path))


def test_only_a_prefix_that_all_names_share_is_removed(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "a.pth")
    assert weight_files.read(tmp_path / "a.pth").keys() == {"module.a", "b"}


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_bfloat16_widens_to_float32(tmp_path, ending):
    tensors = {"x": torch.tensor([[1.0, 0.3]]).bfloat16(), "y": torch.tensor([0.1]).half()}
    path = tmp_path / f"a.{ending}"
    safetensors.torch.save_file(tensors, path) if ending == "safetensors" else torch.save(tensors, path)
    state = weight_files.read(path)
    assert (state["x"].dtype, state["y"].dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(state["x"], np.float32([[1.0, 0.30078125]]))
    np.testing.assert_array_equal(state["y"], np.float16([0.1]))


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_bfloat16_is_written_as_float32_and_a_scalar_keeps_its_shape(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    weight_files.write(path, {"x": jnp.array([1.0, 0.3], jnp.bfloat16), "y": np.float32(7)})
    state = weight_files.read(path)
    assert (state["x"].dtype, state["y"].shape) == (np.float32, ())
    np.testing.assert_array_equal(state["x"], np.float32([1.0, 0.30078125]))


def test_a_type_without_a_numpy_form_is_named(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"x": torch.ones(2).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(ValueError, match=r"a\.safetensors: x is of type F8_E4M3; save it as float32"):
        weight_files.read(path)


@pytest.mark.parametrize("kind", ["int32", "float16", "uint8", "bool"])
def test_numpy_numbers_of_any_type_are_ignored(tmp_path, kind):
    torch.save(published(step=np.dtype(kind).type(1)), tmp_path / "a.pth")
    assert_same(weight_files.read(tmp_path / "a.pth"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_protocol_that_pytorch_does_not_read_safely_is_named(tmp_path, zipped):
    torch.save(published(), tmp_path / "a.pth", pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"a\.pth: not a readable PyTorch file .*pickle protocol"):
        weight_files.read(tmp_path / "a.pth")


class Malicious:
    """Runs a command where pickle rebuilds it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["args", "model", "optimizer"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, zipped, where):
    trace = tmp_path / "trace"
    content = published(**{where: Malicious(f"touch {trace}")})
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"a\.pth: refused, reading it would call posix\.system; if you trust"
    ):
        weight_files.read(tmp_path / "a.pth")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pth", b"not a checkpoint at all", "not a readable PyTorch file"),
        ("a.pth", b"", "not a readable PyTorch file"),
        ("a.safetensors", b"not a checkpoint at all", "not a readable .safetensors file"),
        ("a.npz", b"", r"weights end in .pth, .pt, .safetensors"),
    ],
)
def test_unreadable_files_are_one_clear_line(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        weight_files.read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_truncated_file_is_one_clear_line(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    weight_files.write(path, STATE)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable") as error:
        weight_files.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_anywhere_is_one_clear_line_that_names_the_file(tmp_path, zipped):
    """Change each byte of the pickle in turn: PyTorch's reader raises exceptions of many types."""
    path = tmp_path / "a.pth"
    torch.save(published(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    start = data.index(b"epoch") - 300
    messages = []
    for place in range(start, start + 300):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x81]) + data[place + 1 :])
        try:
            weight_files.read(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 150
    assert [text for text in messages if not text.startswith(f"{path}: ") or "\n" in text] == []


@pytest.mark.parametrize("content", [[1, 2], {"model": [1]}, {"epoch": 3}, torch.ones(2), {0: torch.ones(1)}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    message = "a.pth: holds neither a state dict nor one under `model`, `module`, `state_dict`"
    with pytest.raises(ValueError, match=message):
        weight_files.read(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"state_dict": {}, "epoch": 3}])
def test_an_empty_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    safetensors.numpy.save_file({}, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        with pytest.raises(ValueError, match=rf"{name}: holds no tensors$"):
            weight_files.read(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(2, dtype=torch.complex64), "is of type complex64; save it as float32"),
        (torch.ones(2).to(torch.float8_e4m3fn), "is of type float8_e4m3fn; save it as float32"),
        (torch.ones(2).to(torch.float8_e5m2), "is of type float8_e5m2; save it as float32"),
        (torch.ones(2, dtype=torch.uint16), "is of type uint16; save it as float32"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            "is of type qint8; save it as",
        ),
        (torch.ones(2, 2).to_sparse(), "is a tensor of layout torch.sparse_coo; save it as an ordinary one"),
        (torch.ones(2, device="meta"), "is a tensor without values; save it as an ordinary one"),
        ("a text", "is a str, not a tensor: save only the weights"),
        (3, "is a int, not a tensor: save only the weights"),
        (None, "is a NoneType, not a tensor: save only the weights"),
    ],
    ids=lambda value: value.split(";")[0] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_a_value_that_is_no_weight_is_named_with_its_file(tmp_path, key, value, kind):
    path = tmp_path / "a.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about quantised and sparse tensors
        state = {**TENSORS, "head.scale": value() if callable(value) else value}
        torch.save(state if key is None else {key: state}, path)
        with pytest.raises(ValueError, match=r"head\.scale") as error:
            weight_files.read(path)
    assert str(error.value).startswith(f"{path}: head.scale {kind}")
    assert "\n" not in str(error.value)


def test_views_and_shared_storage_are_read_as_they_look(tmp_path):
    whole = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    views = {
        "transposed": whole.T,
        "strided": whole[:, ::2],
        "same": whole,
        "again": whole,
        "expanded": torch.ones(1, 1).expand(2, 3),
        "negated": torch.complex(torch.ones(2), torch.ones(2)).conj().imag,
        "half": whole.half().T,
        "scalar": torch.tensor(2.0, requires_grad=True),
    }
    torch.save(views, tmp_path / "a.pth")
    read = weight_files.read(tmp_path / "a.pth")
    assert read.keys() == views.keys()
    for name, value in views.items():
        np.testing.assert_array_equal(read[name], value.detach().resolve_neg().numpy())


def test_a_configuration_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(STATE, path, {weight_files.CONFIG: "{"})
    with pytest.raises(ValueError, match=r"a\.safetensors: its hicmae_config is not JSON"):
        weight_files.read(path)


def test_missing_and_existing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.pth: no such file"):
        weight_files.read(tmp_path / "a.pth")
    weight_files.write(tmp_path / "a.pth", STATE)
    with pytest.raises(FileExistsError, match=r"a\.pth exists"):
        weight_files.write(tmp_path / "a.pth", {})
    assert_same(weight_files.read(tmp_path / "a.pth"))


def test_without_pytorch_safetensors_work_and_pth_says_what_to_install(tmp_path):
    script = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import numpy as np
from hicmae_jax.weights import files as checkpoint_files
from hicmae_jax.weights import torch_names as torch_weights
checkpoint_files.write(sys.argv[1] + "/a.safetensors", {"x": np.ones(2, np.float32)})
assert checkpoint_files.read(sys.argv[1] + "/a.safetensors")["x"].tolist() == [1, 1]
for call in (lambda: checkpoint_files.write(sys.argv[1] + "/b.pth", {}),
             lambda: checkpoint_files.read(sys.argv[1] + "/a.pth")):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    (tmp_path / "a.pth").write_bytes(b"x")
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    assert all("pip install 'hicmae_jax[torch]'" in line for line in lines)
