"""Find the smallest change of a run's settings with which its step fits into a chip's memory."""

from collections.abc import Iterator, Sequence

import jax

from hicmae_jax.aot.activations import activation_bytes
from hicmae_jax.aot.compile import STEPS_PER_EPOCH, DoesNotFitError, Step, compile_step
from hicmae_jax.runs import build
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.training import sharding

MARGIN = 0.8
"""A change is tried if, by an estimate, it saves at least this share of the missing memory."""


def changes(
    config: PretrainSettings, devices: Sequence[jax.Device], missing: float
) -> Iterator[tuple[str, PretrainSettings]]:
    """Changes that may save enough memory, the smallest first.

    Recomputing costs only time. Splitting the state over more chips costs messages; micro-batches cost
    efficiency. A smaller batch makes another experiment, so it comes last.

    Args:
        config: settings of the step that does not fit.
        devices: that the step is compiled for.
        missing: bytes a chip that the step needs beyond what there is.

    Yields:
        Options of the command line, and the configuration that they give.
    """
    clips = config.batch / len(devices) / config.accumulate
    recomputing = config
    options: list[str] = []
    kept = activation_bytes(config.model, config.masks, config.execution)
    for name in ("remat_encoder", "remat_decoder", "remat_fusion"):
        if getattr(recomputing.execution, name) == "full":
            continue
        recomputing = recomputing.changed({f"execution.{name}": "full"})
        options.append(f"--config.execution.{name}=full")
        saved = (kept - activation_bytes(config.model, config.masks, recomputing.execution)) * clips
        if saved >= MARGIN * missing:
            yield " ".join(options), recomputing

    state = _state_bytes(config, devices)
    fsdp = config.fsdp * 2
    while len(devices) % fsdp == 0:
        saved = state * (1 / config.fsdp - 1 / fsdp)
        if saved >= MARGIN * missing:
            yield f"--config.fsdp={fsdp}", config.changed({"fsdp": fsdp})
            break
        fsdp *= 2

    group = config.loss.group_size or 1
    for parts in (2, 4, 8, 16, 32):
        accumulate = config.accumulate * parts
        micro_batch, rest = divmod(config.batch, accumulate)
        if rest or micro_batch % len(devices) or micro_batch % group:
            break
        if kept * clips * (1 - 1 / parts) >= MARGIN * missing:
            yield f"--config.accumulate={accumulate}", config.changed({"accumulate": accumulate})

    for parts in (2, 4, 8, 16, 32):
        batch, rest = divmod(config.batch, parts)
        if rest or batch % (config.accumulate * len(devices)) or batch // config.accumulate % group:
            break
        yield f"--config.batch={batch}", config.changed({"batch": batch})


def first_that_fits(
    config: PretrainSettings, devices: Sequence[jax.Device], error: DoesNotFitError
) -> Iterator[tuple[str, Step | DoesNotFitError]]:
    """Compile one change after the other until a step fits.

    Args:
        config: settings of the step that does not fit.
        devices: that the step was compiled for.
        error: that the step has raised.

    Yields:
        Options of the command line, and what compiling with them gave. The first step that fits is the last
        result; there is none if no change suffices.
    """
    for options, changed in changes(config, devices, error.needed - error.available):
        try:
            step = compile_step(changed, devices)
        except DoesNotFitError as still:
            yield options, still
        else:
            yield options, step
            return


def _state_bytes(config: PretrainSettings, devices: Sequence[jax.Device]) -> int:
    """Bytes of parameters, gradient and moments over all devices; each device keeps 1 / fsdp of them."""
    mesh = sharding.make_mesh(config.fsdp, devices)
    _, abstract = build.abstract_run(config, config.optimizer_config(STEPS_PER_EPOCH), mesh)
    trees = (abstract.params, abstract.params, abstract.opt_state)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))
