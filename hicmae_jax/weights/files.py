"""Weight files: `.safetensors`, and PyTorch's `.pth`, read without running code in it.

A `.pth` is a pickle, which can call any function when it is read. Published checkpoints hold an
`argparse.Namespace` and the optimiser's state beside the weights. The reader allows these types and refuses
all others. `.safetensors` holds only arrays and needs no PyTorch.

Files written here may also hold the model's configuration, as plain values.
"""

import argparse
import io
import json
import os
import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from data_pipeline.common import atomic_files

CONFIG = "hicmae_config"
"""Name of the configuration: a key of a .pth, or of the metadata of a .safetensors, where it is JSON."""
PTH = (".pth", ".pt")
SAFETENSORS = (".safetensors",)
KEYS = ("model", "module", "state_dict")
"""Keys under which training scripts store the state dict in a .pth; the first that holds tensors counts."""
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of names that DistributedDataParallel and `torch.compile` add."""
SAFETENSORS_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
"""Type in a .safetensors file → type that NumPy reads; bfloat16 is read as its bits."""


class Content(NamedTuple):
    """What a weight file holds.

    Attributes:
        state: PyTorch name → array.
        config: the configuration that `write` was given; None if there is none.
        beside: what else a .pth holds under its keys, such as the epoch and the command line; a state dict of
            tensors, such as an optimiser's, is in it as it is.
    """

    state: dict[str, np.ndarray]
    config: dict[str, Any] | None
    beside: Mapping[str, Any]


def read(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Read the weights of a `.pth` or `.safetensors` file; see `read_with_config`."""
    return read_with_config(path)[0]


def read_with_config(path: epath.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """Read the weights of a file, and the configuration if it holds one; see `read_content`."""
    content = read_content(path)
    return content.state, content.config


def read_content(path: epath.PathLike) -> Content:
    """Read a `.pth` or `.safetensors` file.

    A `.pth` may hold a state dict, or one under `model`, `module` or `state_dict`. A prefix that every name
    has and that PyTorch's wrappers have added (`module.`, `_orig_mod.`) is removed. bfloat16 becomes float32
    without loss, because NumPy has no bfloat16; other types stay.

    Args:
        path: on any file system that etils.epath supports.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: another ending, a damaged file, one that would run code, one without a state dict, or a
            tensor of a type that NumPy does not have.
    """
    path = epath.Path(path)
    _known_ending(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    data = path.read_bytes()
    state, config, beside = (_load_safetensors if path.suffix in SAFETENSORS else _load_pth)(path, data)
    if not state:
        raise ValueError(f"{path}: holds no tensors")
    while prefix := next((wrapper for wrapper in WRAPPERS if _all_begin_with(wrapper, state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return Content(state, config, beside)


def write(
    path: epath.PathLike, state: Mapping[str, np.ndarray], config: Mapping[str, Any] | None = None
) -> None:
    """Write weights as `.pth`, `{"model": state dict}`, or as `.safetensors`; the ending decides.

    The file appears complete or not at all. bfloat16 is written as float32.

    Args:
        path: a new file.
        state: PyTorch name → array.
        config: the model's configuration, of values that JSON can hold; None to leave it out.

    Raises:
        FileExistsError: the file exists.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: another ending.
        OSError: the file cannot be written.
    """
    path = epath.Path(path)
    _known_ending(path)
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it or choose another name")
    arrays = {name: np.asarray(value, order="C") for name, value in state.items()}
    arrays = {
        name: value.astype(np.float32) if value.dtype.name == "bfloat16" else value
        for name, value in arrays.items()
    }
    if path.suffix in SAFETENSORS:
        metadata = None if config is None else {CONFIG: json.dumps(config)}
        data = safetensors.numpy.save(arrays, metadata)
    else:
        torch = _torch(path)
        buffer = io.BytesIO()
        # torch.tensor copies: PyTorch warns about arrays that it may not write to.
        content: dict[str, Any] = {"model": {name: torch.tensor(value) for name, value in arrays.items()}}
        if config is not None:
            content[CONFIG] = json.loads(json.dumps(config))  # plain values only, which reading allows
        torch.save(content, buffer)
        data = buffer.getvalue()
    try:
        with atomic_files.replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None  # not the temporary file, or none at all
        raise


def check_numbers(state: Mapping[str, np.ndarray]) -> None:
    """Refuse what is no weight: quantised weights, for example, would become others without a word.

    Args:
        state: name → array.

    Raises:
        ValueError: names the first array that is not of floating point, or has values that are not finite.
    """
    for name, value in state.items():
        if value.dtype.kind != "f":
            raise ValueError(f"{name} is of type {value.dtype}, which is no weight: save it as float32")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} has values that are not finite: take another checkpoint")


def _all_begin_with(prefix: str, state: Mapping[str, Any]) -> bool:
    return all(name.startswith(prefix) and name != prefix for name in state)


def _known_ending(path: epath.Path) -> None:
    if path.suffix not in PTH + SAFETENSORS:
        raise ValueError(f"{path}: weights end in {', '.join(PTH + SAFETENSORS)}")


def _torch(path: epath.Path) -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError(
            f"{path}: .pth files need PyTorch: pip install 'hicmae_jax[torch]', or use .safetensors"
        ) from None
    return torch


def _load_safetensors(path: epath.Path, data: bytes) -> Content:
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a readable .safetensors file ({error})") from None
    state = {}
    for name, tensor in tensors:
        kind = tensor["dtype"]
        if kind not in SAFETENSORS_TYPES:
            raise ValueError(_of_odd_type(path, name, kind))
        values = np.frombuffer(tensor["data"], SAFETENSORS_TYPES[kind])
        if kind == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        state[name] = values.reshape(tensor["shape"])
    # The format begins with the length of a JSON header, 8 bytes; the library does not return its metadata.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    config = header.get("__metadata__", {}).get(CONFIG)
    try:
        return Content(state, None if config is None else json.loads(config), {})
    except ValueError as error:
        raise ValueError(f"{path}: its {CONFIG} is not JSON ({error})") from None


def _load_pth(path: epath.Path, data: bytes) -> Content:
    torch = _torch(path)
    scalar = np.float64(0).__reduce__()[0]  # this function rebuilds a NumPy number and has no public name
    kinds = np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"
    # Published checkpoints hold, beside tensors and plain containers, the command line's namespace and NumPy
    # numbers as learning rates, under the names of NumPy 1 and 2. None of these types runs code.
    allowed = [
        argparse.Namespace,
        np.dtype,
        *{type(np.dtype(kind)) for kind in kinds},
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; an unreadable file raises anyway
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # one damaged byte can raise nearly any exception
        raise ValueError(f"{path}: {_why_unreadable(error)}") from None
    state = _find_state(torch, path, content)
    config, beside = None, {}
    if state is not content:
        config = content.get(CONFIG)
        beside = {key: value for key, value in content.items() if value is not state and key != CONFIG}
    return Content({name: _array(torch, path, name, value) for name, value in state.items()}, config, beside)


def _find_state(torch: Any, path: epath.Path, content: Any) -> Mapping[str, Any]:
    """The state dict in a file: the dictionary under a usual key that holds tensors, or the whole."""

    def holds_tensors(found: Any) -> bool:
        return isinstance(found, dict) and any(isinstance(value, torch.Tensor) for value in found.values())

    candidates = [content[key] for key in KEYS if key in content] if isinstance(content, dict) else []
    for state in (*candidates, content):
        if holds_tensors(state) and all(isinstance(name, str) for name in state):
            return state
    if any(found == {} for found in (*candidates, content) if isinstance(found, dict)):
        raise ValueError(f"{path}: holds no tensors")
    raise ValueError(
        f"{path}: holds neither a state dict nor one under {', '.join(f'`{key}`' for key in KEYS)}"
    )


def _why_unreadable(error: Exception) -> str:
    """Say in one line why PyTorch's safe reader refused a file, and what to do."""
    message = str(error)
    if found := re.search(r"GLOBAL (\S+)", message):
        return (
            f"refused, reading it would call {found[1]}; if you trust its source, load it with PyTorch and "
            "save only its weights"
        )
    if "Unsupported operand" in message:
        return "not a readable PyTorch file (damaged, or of a pickle protocol other than torch.save's own 2)"
    reason = re.search(r"WeightsUnpickler error: (.+)", message) or re.search(r"(.+?)(\. |$)", message, re.M)
    return f"not a readable PyTorch file ({type(error).__name__}: {reason[1] if reason else message})"


def _array(torch: Any, path: epath.Path, name: str, value: Any) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{path}: {name} is a {type(value).__name__}, not a tensor: save only the weights")
    if value.layout != torch.strided or value.device.type != "cpu":
        kind = "without values" if value.device.type == "meta" else f"of layout {value.layout}"
        raise ValueError(f"{path}: {name} is a tensor {kind}; save it as an ordinary one")
    if value.dtype not in _dtypes(torch):
        raise ValueError(_of_odd_type(path, name, str(value.dtype).removeprefix("torch.")))
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().resolve_neg().numpy()


def _dtypes(torch: Any) -> set[Any]:
    """The types of a .pth that are read: the same as those of a .safetensors."""
    names = [np.dtype(kind).name for name, kind in SAFETENSORS_TYPES.items() if name != "BF16"]
    return {torch.bfloat16, *(getattr(torch, name) for name in names)}


def _of_odd_type(path: epath.Path, name: str, kind: str) -> str:
    return f"{path}: {name} is of type {kind}; save it as float32, float16 or bfloat16"
