"""Export of a run's weights to a file for PyTorch, with an optional comparison of both models."""

import dataclasses
import sys

import jax
from etils import epath

from hicmae_jax.checkpoints import load as checkpoints
from hicmae_jax.settings import recorded as recorded_config
from hicmae_jax.weights import files as weight_files
from hicmae_jax.weights import parity, torch_names


def export(run: str, step: int | None, output: epath.Path, check: bool) -> int:
    """Write the file, and compare with PyTorch if `check`.

    Args:
        run: directory of the run.
        step: step of the checkpoint; None for the last.
        output: a new file.
        check: whether to compare with PyTorch.

    Returns:
        0, or 2 if PyTorch disagrees.

    Raises:
        FileNotFoundError: no such run or checkpoint, or no directory for the file.
        FileExistsError: the file exists.
        ImportError: PyTorch is needed and not installed.
        ValueError: another ending, or a checkpoint that is damaged or of a later version.
    """
    _check_output(output)
    if check:
        _check_torch()
    jax.config.update("jax_platforms", "cpu")  # exact float32, and no accelerator is occupied
    params, record = checkpoints.load_parameters(run, step)
    config = recorded_config.load(record["config"], "cpu")
    state = torch_names.state_dict(params, config.model.patch)
    weight_files.write(output, state, dataclasses.asdict(config.model))
    values = sum(value.size for value in state.values())
    print(f"wrote     {output}: {len(state)} tensors, {values / 1e6:.2f} million values")
    if not check:
        return 0
    worst = parity.worst_disagreements(
        params, weight_files.read(output), config.model, config.masks, config.loss, config.execution
    )
    allowed = f"{parity.ABSOLUTE:g} + {parity.RELATIVE:g} of the value"
    print(f"compared  with PyTorch; largest difference as a share of what is allowed ({allowed}):")
    for name, share in worst.items():
        print(f"  {name:26}{share:8.4f}")
    if max(worst.values()) <= 1:
        return 0
    print(f"export: PyTorch disagrees about {output}: do not use it", file=sys.stderr)
    return 2


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
            "--check and .pth files need PyTorch: pip install 'hicmae_jax[torch]', or write .safetensors"
        ) from None
