"""Whether the steps of a study fit into the memory of chips that are absent, by the compiler."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_pipeline.common.errors import one_line
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.training.chips import GIB

if TYPE_CHECKING:
    import jax

# Sections and settings that do not change the compiled step.
_WITHOUT = ("data.", "checkpoint.", "log.", "evaluation.", "faults.", "optimizer.")
_ALSO_WITHOUT = ("seed", "epochs", "steps", "warmup_epochs", "warmup_steps", "warmup_examples")
# Of the optimiser these do.
_BUT = ("optimizer.kind", "optimizer.clip")


def key(config: PretrainSettings) -> str:
    """What the compiled step depends on; runs with the same key have the same step."""
    values = {
        name: value
        for name, value in config.values.items()
        if name in _BUT or not (name.startswith(_WITHOUT) or name in _ALSO_WITHOUT)
    }
    return json.dumps(values, sort_keys=True, default=str)


def fits(configs: Sequence[PretrainSettings], topology: str) -> dict[str, str]:
    """Compile every different step, and say whether it fits.

    Args:
        configs: settings of the runs, made for the platform of these chips.
        topology: the chips, as `launch.aot` takes them.

    Returns:
        Key of the step → `fits, 12.3 of 95.7 GiB`, or what the compiler says.

    Raises:
        ModuleNotFoundError: the compiler is not installed.
        ValueError: the compiler does not know the topology.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")  # do not occupy a TPU or GPU that this machine may have
    from hicmae_jax.aot import topology as topologies

    devices = topologies.devices(topology)
    different = {key(config): config for config in configs}
    found = {}
    for number, (name, config) in enumerate(different.items(), start=1):
        print(
            f"compiling   step {number} of {len(different)}: {config.size}, batch {config.batch:,}",
            flush=True,
        )
        found[name] = _fits(config, devices)
    return found


def _fits(config: PretrainSettings, devices: "Sequence[jax.Device]") -> str:
    from hicmae_jax.aot import compile as aot_compile
    from hicmae_jax.training import chips

    try:
        step = aot_compile.compile_step(config, devices)
    except aot_compile.DoesNotFitError as error:
        return str(error)
    except ValueError as error:
        return f"impossible: {one_line(error)}"
    chip, total = chips.chip(devices[0]), aot_compile.memory(step)["total"]
    available = f" of {chip.memory / GIB:.1f}" if chip and chip.memory else ""
    return f"fits, {total / GIB:.1f}{available} GiB"
