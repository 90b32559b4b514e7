"""Conversion between this project's parameter tree and PyTorch's names and layouts, bit for bit.

The tree mirrors the published names: `encoder/blocks_0/norm1/scale` is `encoder.blocks.0.norm1.weight`.
Matrices are [in, out] here and [out, in] in PyTorch, where patch embeddings are convolutions. A scanned
encoder stacks its layers, `encoder/blocks/attn/qkv/kernel` [depth, in, out]; nothing else is stacked.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Path = tuple[str, ...]
StateDict = dict[str, np.ndarray]

# A fine-tuning model takes these modules from a pre-training checkpoint; others keep their initial values.
SHARED = ("encoder", "encoder_audio", "encoder_fusion")


class _Entry(NamedTuple):
    """One PyTorch parameter and its place in the tree."""

    name: str
    path: Path
    layer: int | None  # row of a stacked leaf
    shape: tuple[int, ...]  # PyTorch's
    convolution: tuple[int, ...] | None  # (patch sides ..., channels) of a patch embedding's kernel


def torch_name(path: Path, layer: int | None = None) -> str:
    """PyTorch name of a parameter.

    Args:
        path: its path in the tree, such as `("encoder", "blocks_0", "norm1", "scale")`.
        layer: its row in a leaf that stacks the layers of an encoder.
    """
    *modules, leaf = path
    if layer is not None:
        modules = [f"blocks_{layer}" if module == "blocks" else module for module in modules]
    modules = [re.sub(r"^(blocks|blocks_audio)_(\d+)$", r"\1.\2", module) for module in modules]
    if modules and modules[-1] == "patch_embed":
        modules.append("proj")
    return ".".join([*modules, "weight" if leaf in ("kernel", "scale") else leaf])


def _entries(template: Mapping[str, Any], patch: int) -> Iterator[_Entry]:
    for path, leaf in flatten_dict(template).items():
        stacked = "blocks" in path
        shape = tuple(leaf.shape[1:] if stacked else leaf.shape)
        convolution = None
        if path[-2:] == ("patch_embed", "kernel"):
            convolution = _convolution(path, shape[0], patch)
            shape = (shape[1], convolution[-1], *convolution[:-1])
        elif path[-1] == "kernel":
            shape = shape[::-1]
        for layer in range(leaf.shape[0]) if stacked else [None]:
            yield _Entry(torch_name(path, layer), path, layer, shape, convolution)


def _convolution(path: Path, values: int, patch: int) -> tuple[int, ...]:
    if path[0] == "encoder_audio":
        sides: tuple[int, ...] = (patch, patch, 1)
    else:
        sides = (values // (3 * patch * patch), patch, patch, 3)
    if math.prod(sides) != values or not values:
        raise ValueError(f"{'/'.join(path)} takes {values} values, which patches of side {patch} do not have")
    return sides


def shapes(template: Mapping[str, Any], patch: int = 16) -> dict[str, tuple[int, ...]]:
    """PyTorch name → PyTorch shape of every parameter of a model.

    Args:
        template: parameter tree, of arrays or of `jax.eval_shape`'s shapes.
        patch: side of a patch.
    """
    return {entry.name: entry.shape for entry in _entries(template, patch)}


def state_dict(params: Mapping[str, Any], patch: int = 16) -> StateDict:
    """Convert parameters to PyTorch's names and layout, as NumPy arrays of unchanged bits.

    Args:
        params: parameter tree of arrays, of a pre-training or a fine-tuning model.
        patch: side of a patch.

    Raises:
        ValueError: the patch embeddings are not of that patch.
    """
    leaves = {path: np.asarray(leaf) for path, leaf in flatten_dict(jax.device_get(params)).items()}
    state = {}
    for entry in _entries(params, patch):
        value = leaves[entry.path] if entry.layer is None else leaves[entry.path][entry.layer]
        if entry.convolution:
            value = np.moveaxis(value.reshape(*entry.convolution, -1), (-1, -2), (0, 1))
        elif entry.path[-1] == "kernel":
            value = value.T
        state[entry.name] = np.ascontiguousarray(value).reshape(entry.shape)
    return state


def _leaf_value(entry: _Entry, value: np.ndarray) -> np.ndarray:
    if entry.convolution:
        return np.moveaxis(value, (0, 1), (-1, -2)).reshape(-1, entry.shape[0])
    return value.T if entry.path[-1] == "kernel" else value


def parameters(state: Mapping[str, np.ndarray], template: Mapping[str, Any], patch: int = 16) -> Any:
    """Convert a PyTorch state dict to a parameter tree: the inverse of `state_dict`.

    Args:
        state: PyTorch name → array; exactly the model's names.
        template: tree of arrays or shapes that gives the structure, stacked or not, and the dtypes.
        patch: side of a patch.

    Returns:
        A tree of NumPy arrays.

    Raises:
        ValueError: lists every missing and extra name and every wrong shape.
    """
    check_names(shapes(template, patch), {name: tuple(np.shape(value)) for name, value in state.items()})
    rows: dict[Path, list[np.ndarray]] = {}
    for entry in _entries(template, patch):
        rows.setdefault(entry.path, []).append(_leaf_value(entry, np.asarray(state[entry.name])))

    def leaf(path: Path, like: Any) -> np.ndarray:
        value = np.stack(rows[path]) if "blocks" in path else rows[path][0]
        return np.array(value, like.dtype, order="C")

    return unflatten_dict({path: leaf(path, like) for path, like in flatten_dict(template).items()})


def check_names(expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the names and shapes of a state dict with a model's.

    Args:
        expected: the model's.
        given: the state dict's.

    Raises:
        ValueError: lists every missing and extra name and every wrong shape.
    """
    wrong = [
        f"{name} (is {given[name]}, should be {expected[name]})"
        for name in expected
        if name in given and given[name] != expected[name]
    ]
    problems = {
        "missing": [name for name in expected if name not in given],
        "extra": [name for name in given if name not in expected],
        "wrong shape": wrong,
    }
    lines = [f"{len(names)} {what}: {', '.join(names)}" for what, names in problems.items() if names]
    if lines:
        raise ValueError("weights do not fit the model; " + "; ".join(lines))


class Filled(NamedTuple):
    """A fine-tuning model filled from a pre-training checkpoint.

    Attributes:
        params: the parameter tree, NumPy arrays.
        taken: PyTorch names of the parameters that come from the checkpoint.
        left: names in the checkpoint that the model does not have.
        fresh: names of the parameters that keep their initial values.
    """

    params: Any
    taken: list[str]
    left: list[str]
    fresh: list[str]


def fill_finetune(state: Mapping[str, np.ndarray], params: Mapping[str, Any], patch: int = 16) -> Filled:
    """Fill the encoders and the fusion encoder of a fine-tuning model from a checkpoint (section 3.4).

    `fc_norm`, `head` and the layer weights keep their initial values, even if the checkpoint has such names.
    Decoders and mask tokens are not used. A model of one modality takes the encoder of that modality.

    Args:
        state: PyTorch name → array, of a pre-training checkpoint.
        params: the fine-tuning model's initial parameters, arrays.
        patch: side of a patch.

    Raises:
        ValueError: lists the encoder and fusion names that are missing, extra or of the wrong shape.
    """

    def from_encoders(name: str) -> bool:
        return name.split(".")[0] in SHARED

    initial = state_dict(params, patch)
    wanted = {name: value for name, value in state.items() if from_encoders(name) and name in initial}
    expected = {name: value.shape for name, value in initial.items() if from_encoders(name)}
    # Names of a deeper encoder or fusion encoder are an error: part of another model would not train alike.
    surplus = {
        name: value
        for name, value in state.items()
        if name not in initial and name.split(".")[0] in params and from_encoders(name)
    }
    check_names(expected, {name: tuple(np.shape(value)) for name, value in {**wanted, **surplus}.items()})
    return Filled(
        params=parameters({**initial, **wanted}, params, patch),
        taken=[name for name in state if name in wanted],
        left=[name for name in state if name not in wanted],
        fresh=[name for name in initial if name not in wanted],
    )


def stack_layers(params: Mapping[str, Any]) -> Any:
    """Stack the layers of both encoders, for a model that scans them.

    Raises:
        ValueError: an encoder is stacked already.
    """

    def stack(layers: list[Mapping[str, Any]]) -> Any:
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *layers)

    def encoder(modules: dict[str, Any]) -> dict[str, Any]:
        depth = sum(re.fullmatch(r"blocks_\d+", name) is not None for name in modules)
        if not depth:
            raise ValueError("the encoder has no blocks_0, blocks_1, …: is it stacked already?")
        layers = [modules.pop(f"blocks_{i}") for i in range(depth)]
        return {**modules, "blocks": stack(layers)}

    return _each_encoder(params, encoder)


def unstack_layers(params: Mapping[str, Any]) -> Any:
    """Split the stacked layers of both encoders: the inverse of `stack_layers`.

    Raises:
        ValueError: an encoder is not stacked.
    """

    def encoder(modules: dict[str, Any]) -> dict[str, Any]:
        if "blocks" not in modules:
            raise ValueError("the encoder has no `blocks`: is it per layer already?")
        stacked = modules.pop("blocks")
        depth = len(jax.tree.leaves(stacked)[0])
        layers = {f"blocks_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(depth)}
        return {**modules, **layers}

    return _each_encoder(params, encoder)


def _each_encoder(params: Mapping[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Apply a change to both modality encoders, in a new tree."""
    return {
        name: change(dict(value)) if name in ("encoder", "encoder_audio") else value
        for name, value in params.items()
    }
