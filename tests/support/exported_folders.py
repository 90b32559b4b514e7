"""Folders of exported weights of tiny models, and Python programs that have only PyTorch to load them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from hicmae_jax.weights import delivery
from hicmae_jax.weights.trained import Trained, load_trained
from tests.support import finetune_fixtures, run_fixtures

# What a program with PyTorch, NumPy and safetensors has installed: these, and what PyTorch asks for.
INSTALLED = ("torch", "numpy", "safetensors")
OF_TORCH = (
    *("torchgen", "functorch", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe"),
    *("filelock", "fsspec", "setuptools"),
)

_ONLY = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names | {allowed} and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refusing())
"""


def run_isolated(folder: Path, program: str, *arguments: str, without: tuple[str, ...] = ()) -> str:
    """Run a program that can import only the files of a folder, PyTorch, NumPy and safetensors.

    Returns:
        What it prints. It must end without an error.
    """
    own = {path.stem for path in folder.glob("*.py")}
    allowed = ({*INSTALLED, *OF_TORCH} | own) - set(without)
    start = _ONLY.format(allowed=allowed) + f"sys.path.insert(0, {str(folder)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", start + program, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pretrained(root: Path) -> tuple[Trained, Path]:
    """A pre-training run, and its folder."""
    run = run_fixtures.write_run(root / "run", run_fixtures.config("unused", fusion_flow="raw-input"))
    return _deliver(load_trained(run), root)


def tuned(root: Path, **changes) -> tuple[Trained, Path]:
    """A fold with scores, and its folder; `changes` are those of `finetune_fixtures.config`."""
    labelled = finetune_fixtures.write_labelled_set(root / "labelled", n_clips=12)
    run = finetune_fixtures.write_run(root / "made_up/fold-1", finetune_fixtures.config(labelled, **changes))
    write_scores(run)
    return _deliver(load_trained(run), root)


def write_scores(fold: Path, last: int = 3, best: int = 3) -> None:
    """Write scores of 12 test clips as `runs.fold_scores` does."""
    rng = np.random.default_rng(0)
    true = np.eye(6, dtype=np.float32)[np.arange(12) % 6]
    for epoch in ("last", "best"):
        np.savez(
            fold / f"{epoch}.npz",
            name=np.array([f"clip{n}" for n in range(12)]),
            speaker=np.array([f"s{n // 3}" for n in range(12)]),
            true=true,
            scores=rng.dirichlet(np.ones(6), 12) + true,
            feature=np.zeros((12, 4), np.float16),
        )
    written = {
        "protocol": "made_up",
        "fold": 1,
        "selection": "on speakers held out of the training part",
        "outputs": list(finetune_fixtures.CLASSES),
        "flags": ["12 clips, not 7,442"],
        "left_out": [],
        "last": {"step": last, "epoch": 2.0, "UAR": 61.0, "WAR": 62.0, "AUC": None},
        "best": {"step": best, "epoch": 1.0, "UAR": 71.0, "WAR": 72.0, "AUC": None},
    }
    if best == last:
        written["best"] = written["last"]
    (fold / "scores.json").write_text(json.dumps(written))


def _deliver(trained: Trained, root: Path) -> tuple[Trained, Path]:
    delivery.deliver(trained, root / "folder")
    return trained, root / "folder"
