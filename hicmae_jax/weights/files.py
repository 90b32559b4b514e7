"""Weights in files: PyTorch's `.pth` read without running what it holds, and `.safetensors`.

A `.pth` is a pickle, which can call any function when it is read. Published checkpoints pickle an
`argparse.Namespace` and optimiser state beside the weights, so only those types are let in and everything
else is refused. `.safetensors` holds arrays alone and needs no PyTorch.
"""

import argparse
import io
import os
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

PTH = (".pth", ".pt")
SAFETENSORS = (".safetensors",)
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
"""Names of types in a .safetensors file → what NumPy reads them as; bfloat16 only as bits."""


def read(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Read the weights of a `.pth` or `.safetensors` file.

    A `.pth` may hold a state dict or `{"model": state dict, …}`. Where every name begins with `module.`, as
    DistributedDataParallel leaves them, that is removed. bfloat16 comes as float32, which holds each of its
    values, because NumPy has no bfloat16; other types stay.

    Args:
        path: local, or of any file system etils.epath reaches.

    Returns:
        PyTorch name → array.

    Raises:
        FileNotFoundError: no such file.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: another ending, a damaged file, one that would run code, or one without a state dict.
    """
    path = epath.Path(path)
    _known_ending(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    data = path.read_bytes()
    state = _load_safetensors(path, data) if path.suffix in SAFETENSORS else _load_pth(path, data)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def write(path: epath.PathLike, state: Mapping[str, np.ndarray]) -> None:
    """Write weights as `.pth`, `{"model": state dict}`, or as `.safetensors`; the ending decides.

    The file appears complete or not at all. bfloat16 is written as float32.

    Args:
        path: a file that does not exist yet.
        state: PyTorch name → array.

    Raises:
        FileExistsError: the file exists.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: another ending.
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
        data = safetensors.numpy.save(arrays)
    else:
        torch = _torch(path)
        buffer = io.BytesIO()
        # A copy, because PyTorch warns of arrays it may not write to.
        torch.save({"model": {name: torch.tensor(value) for name, value in arrays.items()}}, buffer)
        data = buffer.getvalue()
    partial = path.parent / f"{path.name}.{os.getpid()}.partial"
    partial.write_bytes(data)
    partial.rename(path)


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


def _load_safetensors(path: epath.Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a readable .safetensors file ({error})") from None
    state = {}
    for name, tensor in tensors:
        kind = tensor["dtype"]
        if kind not in SAFETENSORS_TYPES:
            raise ValueError(f"{path}: {name} is of type {kind}; save it as float32, float16 or bfloat16")
        values = np.frombuffer(tensor["data"], SAFETENSORS_TYPES[kind])
        if kind == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        state[name] = values.reshape(tensor["shape"])
    return state


def _load_pth(path: epath.Path, data: bytes) -> dict[str, np.ndarray]:
    torch = _torch(path)
    scalar = np.float64(0).__reduce__()[0]  # what rebuilds a NumPy number; it has no public name
    kinds = np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"
    # What published checkpoints hold beside tensors and plain containers: the command line's namespace,
    # and NumPy numbers as learning rates, under the names of NumPy 1 and 2. None of these runs code.
    allowed = [
        argparse.Namespace,
        np.dtype,
        *{type(np.dtype(kind)) for kind in kinds},
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read raises
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # one damaged byte may surface as nearly any exception
        raise ValueError(f"{path}: {_why_unreadable(error)}") from None
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise ValueError(f"{path}: holds neither a state dict nor one under `model`")
    return {name: _array(torch, value) for name, value in state.items()}


def _why_unreadable(error: Exception) -> str:
    """One line on what PyTorch's safe reader stumbled over, and how to mend it."""
    message = str(error)
    if found := re.search(r"GLOBAL (\S+)", message):
        return (
            f"refused, reading it would call {found[1]}; if you trust where it comes from, load it with "
            "PyTorch and save its weights alone"
        )
    if "Unsupported operand" in message:
        return "not a readable PyTorch file (damaged, or of a pickle protocol other than torch.save's own 2)"
    reason = re.search(r"WeightsUnpickler error: (.+)", message) or re.search(r"(.+?)(\. |$)", message, re.M)
    return f"not a readable PyTorch file ({type(error).__name__}: {reason[1] if reason else message})"


def _array(torch: Any, value: Any) -> np.ndarray:
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu().numpy()
