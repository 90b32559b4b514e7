"""A folder of exported weights that PyTorch, transformers and this project load.

::

    <folder>/model.safetensors, checkpoint.pth      the weights, under the published names
    <folder>/config.json, preprocessor_config.json  the model, and the clips that it takes
    <folder>/hicmae_torch.py                        the model in PyTorch
    <folder>/modeling_hicmae.py, configuration_hicmae.py   for transformers
    <folder>/README.md, eval_results.yaml, LICENSE  the model card, and scores where there are any
    <folder>/SHA256SUMS                             for `sha256sum --check`
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy
from etils import epath

from data_pipeline.common.errors import CommandError
from hicmae_jax.model.config import MaskConfig
from hicmae_jax.model.tokens import PIXEL_MEAN, PIXEL_STD
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.settings import recorded
from hicmae_jax.weights import card, files, folder_config, folder_parity, parity, torch_names
from hicmae_jax.weights.card import TestClips
from hicmae_jax.weights.trained import Trained

CHECKPOINT, CARD, RESULTS, SUMS = "checkpoint.pth", "README.md", "eval_results.yaml", "SHA256SUMS"
HERE = Path(__file__).parent
# Python file of the folder → where it lies here. Imports within the folder are relative.
SOURCES = {
    "hicmae_torch.py": HERE / "torch_model.py",
    "modeling_hicmae.py": HERE / "adapters" / "modeling_hicmae.py",
    "configuration_hicmae.py": HERE / "adapters" / "configuration_hicmae.py",
}
IMPORTS = {
    "from hicmae_jax.weights.torch_model import": "from .hicmae_torch import",
    "from hicmae_jax.weights.adapters.": "from .",
}


def deliver(trained: Trained, output: epath.PathLike, test: TestClips | None = None) -> dict[str, float]:
    """Write the folder, and compare what PyTorch computes from it. After a failure there is no folder.

    Args:
        trained: the model, from a run.
        output: a new directory on a disk.
        test: the test clips of the model's fold, for the card.

    Returns:
        Largest differences between both implementations, see `parity.disagreements`.

    Raises:
        CommandError: PyTorch disagrees; the exit code is 2.
        FileExistsError: the directory exists.
        FileNotFoundError: its parent does not, or the licence of the project is not installed.
        ImportError: PyTorch is not installed.
        OSError: a file cannot be written.
    """
    output = Path(os.fspath(output))
    with _written_whole(output) as folder:
        _write(folder, trained, test)
        worst = folder_parity.worst_of_folder(folder, trained, *_objective(trained))
        if max(worst.values()) > 1:
            share = max(worst, key=lambda name: worst[name])
            raise CommandError(
                f"PyTorch disagrees about {share}: {worst[share]:.3g} times what is allowed; {output} was "
                "not written",
                code=2,
            )
    return worst


@contextlib.contextmanager
def _written_whole(output: Path) -> Iterator[Path]:
    """A directory beside `output`, which takes its name at the end."""
    if output.exists():
        raise FileExistsError(f"{output} exists: delete it or give another name")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output}: there is no directory {output.parent}")
    partial = output.parent / f".{output.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
    try:
        partial.mkdir()
        yield partial
        partial.rename(output)
    except OSError as error:
        raise OSError(f"{output} was not written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, trained: Trained, test: TestClips | None) -> None:
    state = torch_names.state_dict(trained.params, trained.model.patch)
    model = dataclasses.asdict(trained.model)
    metadata = {
        "format": "pt",
        "step": str(trained.step),
        "run": card.run_name(trained),
        files.CONFIG: json.dumps(model),
    }
    (folder / folder_config.WEIGHTS).write_bytes(safetensors.numpy.save(state, metadata))
    files.write(epath.Path(folder / CHECKPOINT), state, model)
    _write_json(folder / folder_config.CONFIG, folder_config.to_json(_config(trained)))
    _write_json(folder / "preprocessor_config.json", preprocessor(trained))
    for name, source in SOURCES.items():
        text = source.read_text(encoding="utf-8")
        for absolute, relative in IMPORTS.items():
            text = text.replace(absolute, relative)
        (folder / name).write_text(text, encoding="utf-8")
    values = sum(value.size for value in state.values())
    (folder / CARD).write_text(card.model_card(trained, values, test), encoding="utf-8")
    if results := card.results(trained, test):
        (folder / RESULTS).write_text(results, encoding="utf-8")
    (folder / "LICENSE").write_text(licence(), encoding="utf-8")
    _write_sums(folder)


def _config(trained: Trained) -> folder_config.FolderConfig:
    return folder_config.FolderConfig(
        trained.model,
        trained.finetune,
        trained.labels,
        trained.regression,
        trained.stride,
        trained.step,
        trained.values.get("loss.frame_difference", True),
    )


def _objective(trained: Trained) -> tuple[MaskConfig, LossConfig]:
    """Masks and loss of a pre-training run; the defaults for a fine-tuned one, which does not use them."""
    if trained.finetune is not None or not trained.values:
        return MaskConfig(), LossConfig()
    settings = recorded.load(trained.values, "cpu")
    return settings.masks, settings.loss


def preprocessor(trained: Trained) -> dict[str, Any]:
    """What `preprocessor_config.json` says: how a clip becomes the input of the model."""
    from hicmae_jax.weights import torch_model  # imports PyTorch; its constants are those of the folder

    model = trained.model
    return {
        "frames": model.frames,
        "stride": trained.stride,
        "frames_per_second": torch_model.FRAME_RATE,
        "image_size": model.image_size,
        "resize": "stretched to a square, bilinear with antialiasing as in Pillow",
        "image_mean": list(PIXEL_MEAN),
        "image_std": list(PIXEL_STD),
        "face": "frames show the face alone, cropped as in the sets that the model was trained on",
        "sampling_rate": torch_model.SAMPLE_RATE,
        "channels": 1,
        "log_mel": {
            "frames": model.audio_frames,
            "bins": model.audio_bins,
            "window": torch_model.WINDOW,
            "hop": torch_model.HOP,
            "fft_size": torch_model.FFT_SIZE,
            "lowest_hz": torch_model.LOWEST_HZ,
            "highest_hz": torch_model.HIGHEST_HZ,
            "pre_emphasis": torch_model.PRE_EMPHASIS,
            "energy_floor": torch_model.ENERGY_FLOOR,
            "mean": torch_model.LOG_MEL_MEAN,
            "standard_deviation": torch_model.LOG_MEL_STD,
            "normalised": "(x - mean) / (2 * standard_deviation)",
        },
    }


def licence() -> str:
    """The project's licence, from its directory or from the installed package.

    Raises:
        FileNotFoundError: it is in neither.
    """
    beside = HERE.parent.parent / "LICENSE"
    if (HERE.parent.parent / "pyproject.toml").exists() and beside.exists():
        return beside.read_text(encoding="utf-8")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("hicmae_jax") or ():
            if file.name == "LICENSE":
                return Path(str(file.locate())).read_text(encoding="utf-8")
    raise FileNotFoundError("the LICENSE of hicmae_jax is not installed: install the package again, with pip")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_sums(folder: Path) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())
    ]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def print_folder(output: epath.PathLike, worst: Mapping[str, float]) -> None:
    """Print the files of a new folder with their sizes, and the differences of both implementations."""
    allowed = f"{parity.ABSOLUTE:g} + {parity.RELATIVE:g} of the value"
    print(f"compared  with PyTorch; largest difference as a share of what is allowed ({allowed}):")
    for name, share in worst.items():
        print(f"  {name:26}{share:8.4f}")
    print(f"wrote     {output}")
    for path in sorted(Path(os.fspath(output)).iterdir()):
        print(f"  {path.name:26}{path.stat().st_size:14,} bytes")
