"""Checking a golden file with the JAX code or the PyTorch file."""

import importlib

import jax

from tests.support import golden_cases, golden_compare
from tests.support.golden_cases import Golden, GoldenError
from tests.support.golden_compare import Line
from tests.support.paths import GOLDENS

# The module of tests.support that computes files of a kind.
MODULES = {
    **dict.fromkeys(("pretrain", "finetune", "log_mel", "crop_resize"), "golden_jax"),
    **dict.fromkeys(("groups", "finetune_steps"), "golden_finetune"),
    **dict.fromkeys(("clips", "augmentation", "mixing"), "golden_clips"),
    **dict.fromkeys(("regression", "class_metrics", "merging"), "golden_scores"),
}
WITH_TORCH = ("pretrain", "finetune")


def check(golden: Golden, with_torch: bool = False) -> list[Line]:
    """Check every quantity of a golden file.

    Raises:
        GoldenError: goldens of anything but a model with PyTorch, or a file that lacks an array.
    """
    kind = golden.kind
    if with_torch and kind not in WITH_TORCH:
        raise GoldenError(f"{golden.path}: the PyTorch file has no {kind}; leave out --torch")
    name = "golden_torch" if with_torch else MODULES[kind]
    compute = getattr(importlib.import_module(f"tests.support.{name}"), kind)
    # Accelerators multiply float32 in fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        if kind in golden_cases.REQUIRED:
            return list(golden_compare.compare(golden, *compute(golden)))
        if kind in golden_cases.MARKS.values():
            return golden_compare.compare_cases(golden, compute(golden))
        return compute(golden)


def assert_all_within(lines: list[Line]) -> None:
    """Fail with the lines of all quantities that are off."""
    assert lines
    assert [str(line) for line in lines if not line.ok] == []


def assert_agrees(name: str, prefixes: tuple[str, ...] = ("",)) -> None:
    """Fail unless the JAX code agrees with a golden file, in all quantities or in those with a prefix."""
    lines = check(golden_cases.load(GOLDENS / f"{name}.npz"))
    assert_all_within([line for line in lines if line.quantity.startswith(prefixes)])
