"""The smallest change to a run's configuration that makes its step fit into a chip's memory."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax

from hicmae_jax.aot.compile import STEPS_PER_EPOCH, DoesNotFitError, Step, compile_step
from hicmae_jax.model import flops as costs
from hicmae_jax.runs import pretrain
from hicmae_jax.settings.pretrain import RunConfig
from hicmae_jax.training import sharding

MARGIN = 0.8
"""Estimates of what a change saves are believed when they reach so much of what is missing."""


def changes(
    config: RunConfig, devices: Sequence[jax.Device], missing: float
) -> Iterator[tuple[str, RunConfig]]:
    """Changes that may save enough, the smallest first: options of the command line, and what they make.

    Recomputing costs time alone. Splitting the state costs messages, micro-batches cost efficiency. A smaller
    batch is another experiment.

    Args:
        config: that does not fit.
        devices: that it is compiled for.
        missing: bytes a chip.
    """
    clips = config.batch / len(devices) / config.accumulate
    recomputing = config
    options: list[str] = []
    kept = costs.activation_bytes(config.model, config.masks)
    for name in ("remat_encoder", "remat_decoder", "remat_fusion"):
        if getattr(recomputing.model, name) == "full":
            continue
        recomputing = _with_model(recomputing, **{name: "full"})
        options.append(f"--config.model.{name}=full")
        saved = (kept - costs.activation_bytes(recomputing.model, recomputing.masks)) * clips
        if saved >= MARGIN * missing:
            yield " ".join(options), recomputing

    state = _state_bytes(config, devices)
    fsdp = config.fsdp * 2
    while len(devices) % fsdp == 0:
        saved = state * (1 / config.fsdp - 1 / fsdp)
        if saved >= MARGIN * missing:
            yield f"--config.fsdp={fsdp}", dataclasses.replace(config, fsdp=fsdp)
            break
        fsdp *= 2

    group = config.loss.group_size or 1
    for parts in (2, 4, 8, 16, 32):
        accumulate = config.accumulate * parts
        micro_batch, rest = divmod(config.batch, accumulate)
        if rest or micro_batch % len(devices) or micro_batch % group:
            break
        if kept * clips * (1 - 1 / parts) >= MARGIN * missing:
            yield f"--config.accumulate={accumulate}", dataclasses.replace(config, accumulate=accumulate)

    for parts in (2, 4, 8, 16, 32):
        batch, rest = divmod(config.batch, parts)
        if rest or batch % (config.accumulate * len(devices)) or batch // config.accumulate % group:
            break
        data = dataclasses.replace(config.data, batch=batch)
        yield f"--config.batch={batch}", dataclasses.replace(config, data=data)


def first_that_fits(
    config: RunConfig, devices: Sequence[jax.Device], error: DoesNotFitError
) -> Iterator[tuple[str, Step | DoesNotFitError]]:
    """Compile change after change until one fits, which is the last that is given.

    Args:
        config: that does not fit.
        devices: that it was compiled for.
        error: that it gave.
    """
    for options, changed in changes(config, devices, error.needed - error.available):
        try:
            step = compile_step(changed, devices)
        except DoesNotFitError as still:
            yield options, still
        else:
            yield options, step
            return


def _with_model(config: RunConfig, **fields: str) -> RunConfig:
    model = dataclasses.replace(config.model, **fields)
    return dataclasses.replace(config, preprocess=dataclasses.replace(config.preprocess, model=model))


def _state_bytes(config: RunConfig, devices: Sequence[jax.Device]) -> int:
    """Bytes of parameters, moments and a gradient, of which each device has a share of 1 / fsdp."""
    mesh = sharding.make_mesh(config.fsdp, devices)
    _, abstract = pretrain.abstract_run(config, config.optimizer_config(STEPS_PER_EPOCH), mesh)
    trees = (abstract.params, abstract.params, abstract.opt_state)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))
