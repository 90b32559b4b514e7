"""Export of a run's weights to a file or a folder for PyTorch, compared with what PyTorch computes."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.common.errors import CommandError
from hicmae_jax.checkpoints import load as checkpoints
from hicmae_jax.checkpoints.best import BEST
from hicmae_jax.settings import recorded as recorded_config
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.weights import delivery, parity, torch_names
from hicmae_jax.weights import files as weight_files
from hicmae_jax.weights.card import TestClips
from hicmae_jax.weights.trained import Trained, load_trained


def export(run: str, step: int | None, output: epath.Path, check: bool, best: bool = False) -> None:
    """Write the file, and compare with PyTorch if `check`. After any failure there is no file.

    Args:
        run: directory of the run.
        step: step of the checkpoint; None for the last.
        output: a new file.
        check: whether to compare with PyTorch.
        best: take the checkpoint with the best score instead.

    Raises:
        CommandError: PyTorch disagrees; the exit code is 2.
        FileNotFoundError: no such run or checkpoint, or no directory for the file.
        FileExistsError: the file exists.
        ImportError: PyTorch is needed and not installed.
        ValueError: another ending, or a checkpoint that is damaged or of a later version.
        OSError: the file cannot be written.
    """
    _check_output(output)
    if check:
        _check_torch()
    jax.config.update("jax_platforms", "cpu")  # exact float32, and no accelerator is occupied
    params, record = checkpoints.load_parameters(run, _choice(step, best))
    recorded = recorded_config.completed(record["config"])
    if check and recorded_config.is_of_finetuning(recorded):
        raise ValueError(f"{run} is a fine-tuning run, which --check does not compare: leave --check out")
    model = recorded_config.model_of(recorded)
    state = torch_names.state_dict(params, model.patch)
    values = sum(value.size for value in state.values())
    partial_name = f".{output.stem}{atomic_files.PARTIAL}{output.suffix}"  # of the same format
    (output.parent / partial_name).unlink(missing_ok=True)  # of an export that was killed
    with _naming(output), atomic_files.replacing(output, partial_name) as partial:
        weight_files.write(partial, state, dataclasses.asdict(model))
        if check and not _agrees(params, partial, recorded_config.load(recorded, "cpu")):
            raise CommandError(f"PyTorch disagrees about {output}, which was not written", code=2)
    print(f"wrote     {output}: {len(state)} tensors, {values / 1e6:.2f} million values")


def export_folder(
    run: str,
    step: int | None,
    output: epath.Path,
    best: bool = False,
    test_clips: Callable[[Trained], TestClips | None] = lambda _: None,
) -> None:
    """Write a folder of weights with all that its users need; see `delivery`.

    Args:
        run: directory of the run, of pre-training or of a fold.
        step: step of the checkpoint; None for the last.
        output: a new directory.
        best: take the checkpoint with the best score instead.
        test_clips: finds the test clips of the fold, for the model card.

    Raises:
        CommandError: PyTorch disagrees; the exit code is 2.
        FileNotFoundError: no such run or checkpoint, or no directory for the folder.
        FileExistsError: the folder exists.
        ImportError: PyTorch is not installed.
        ValueError: a checkpoint that is damaged or of a later version.
        OSError: a file cannot be written.
    """
    if output.exists():
        raise FileExistsError(f"--output={output} exists: delete it or give another name")
    _check_torch()
    jax.config.update("jax_platforms", "cpu")  # exact float32, and no accelerator is occupied
    trained = load_trained(run, step, best)
    worst = delivery.deliver(trained, output, test_clips(trained))
    print(f"loaded    {trained.origin}")
    delivery.print_folder(output, worst)


def _choice(step: int | None, best: bool) -> int | str | None:
    if best and step is not None:
        raise ValueError(f"--best and --step={step} are both given: leave one out")
    return BEST if best else step


def _agrees(params: Any, written: epath.Path, config: PretrainSettings) -> bool:
    """Compare the file with PyTorch, and print the differences."""
    worst = parity.worst_disagreements(
        params, weight_files.read(written), config.model, config.masks, config.loss, config.execution
    )
    allowed = f"{parity.ABSOLUTE:g} + {parity.RELATIVE:g} of the value"
    print(f"compared  with PyTorch; largest difference as a share of what is allowed ({allowed}):")
    for name, share in worst.items():
        print(f"  {name:26}{share:8.4f}")
    return max(worst.values()) <= 1


@contextlib.contextmanager
def _naming(output: epath.Path) -> Iterator[None]:
    """Name the file in an error of the disk, which may name only a temporary file or none."""
    try:
        yield
    except OSError as error:
        raise OSError(f"--output={output} was not written: {error.strerror or error}") from error


def _check_output(output: epath.Path) -> None:
    endings = weight_files.SAFETENSORS + weight_files.PTH
    if output.suffix not in endings:
        raise ValueError(f"--output={output} does not end in {', '.join(endings)}")
    if output.exists():
        raise FileExistsError(f"--output={output} exists: delete it or give another name")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"--output={output}: there is no directory {output.parent}")
    if output.suffix in weight_files.PTH:
        _check_torch()


def _check_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise ImportError(
            "a folder, --check and .pth files need PyTorch: pip install 'hicmae_jax[torch]', or write "
            ".safetensors"
        ) from None
