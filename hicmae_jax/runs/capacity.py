"""Refuses sizes that are impossible on this machine, before any memory or process is taken.

Every estimate is of what a run needs at least, and it is refused only if it needs `SAFETY` times what there
is. Only mistakes such as a width of 10⁹ are meant to fail here; whether a run just fits shows when it starts.
"""

import math

import jax

from data_pipeline.media.log_mel_constants import HOP
from hicmae_jax.model.config import ModelConfig
from hicmae_jax.runs import machine
from hicmae_jax.settings.finetune import FinetuneSettings
from hicmae_jax.settings.pretrain import PretrainSettings

SAFETY = 2
"""Multiple of the memory beyond which a size is refused; swap may hold a part."""
STATE_BYTES = 12
"""Bytes of a parameter with its two moments, in float32."""
WORKER_BYTES = 80_000_000
"""Memory that a process which reads clips shares with no other, before it has read any."""


def check_capacity(config: PretrainSettings | FinetuneSettings) -> None:
    """Refuse sizes of model, batch and workers that this host, or its devices, cannot hold.

    Args:
        config: settings of the run.

    Raises:
        ValueError: one line with the setting, the estimate, and what the machine has.
    """
    memory = machine.memory_bytes()
    _check_tasks(config)
    _check(
        f"data.workers = {config.data.workers:,}: the processes take at least",
        config.data.workers * WORKER_BYTES,
        memory,
        "this host",
        "use fewer",
    )
    has_decoders = isinstance(config, PretrainSettings)
    state = STATE_BYTES * least_parameters(config.model, has_decoders) / config.fsdp
    names = ("encoder_dim", "encoder_depth", *(("decoder_dim", "decoder_depth") if has_decoders else ()))
    sizes = ", ".join(f"{name} = {getattr(config.model, name):,}" for name in names)
    model = f"model.{sizes}: parameters and moments take at least"
    of_device = machine.device_bytes()
    if of_device is None and jax.default_backend() == "cpu":
        _check(model, state * jax.local_device_count(), memory, "this host", "choose a smaller model")
    elif of_device is not None:
        _check(model, state, of_device, "each device", "choose a smaller model, or a larger fsdp")
    clips = config.batch / jax.process_count()
    ahead = (1 + config.data.prefetch) * max(1, config.data.workers)
    _check(
        f"batch = {config.batch:,}, data.prefetch = {config.data.prefetch:,}, data.workers = "
        f"{config.data.workers:,}: the clips that are read ahead take at least",
        clips * ahead * least_clip_bytes(config.model),
        memory,
        "this host",
        "choose less",
    )


def check_scoring(setting: str, clips: int, model: ModelConfig) -> None:
    """Refuse to score more clips at a time than this host can hold.

    Args:
        setting: dotted name of the setting that has their number.
        clips: scored at a time: that number, or the number of clips if that is smaller.
        model: which takes them.

    Raises:
        ValueError: one line with the setting, the estimate, and what the machine has.
    """
    _check(
        f"{setting}: the {clips:,} clips that are scored at a time take at least",
        clips * least_clip_bytes(model),
        machine.memory_bytes(),
        "this host",
        "choose less",
    )


def least_parameters(model: ModelConfig, has_decoders: bool = True) -> int:
    """Number of parameters of the matrices of attention and MLP, without embeddings and cross-attention.

    It takes no time, whatever the sizes are; `shapes` counts exactly. A fine-tuning model has no decoders,
    and at least one encoder without fusion.
    """
    if not has_decoders:
        return model.encoder_depth * 12 * model.encoder_dim**2
    fusion = 2 * model.fusion_depth
    encoders = (2 * model.encoder_depth + fusion) * 12 * model.encoder_dim**2
    return encoders + 2 * model.decoder_depth * 12 * model.decoder_dim**2


def least_clip_bytes(model: ModelConfig) -> int:
    """Bytes of a stored clip, if its frames have at least half the side of those that the model takes."""
    frames = model.frames * 3 * math.ceil(model.image_size / 2) ** 2
    return frames + 2 * HOP * model.audio_frames


def _check_tasks(config: PretrainSettings | FinetuneSettings) -> None:
    data = config.data
    clips = math.ceil(config.batch / jax.process_count())
    # Threads are started as they are needed: no more than there are clips to read.
    threads = min(data.threads, clips * data.prefetch)
    wanted = data.workers + threads * max(1, data.workers)
    allowed = machine.tasks()
    if allowed is not None and wanted > allowed:
        raise ValueError(
            f"data.workers = {data.workers:,}, data.threads = {data.threads:,}: {wanted:,} processes and "
            f"threads are more than the {allowed:,} that this host allows: use fewer"
        )


def _check(what: str, needed: float, there_is: int, of: str, remedy: str) -> None:
    if needed > SAFETY * there_is:
        raise ValueError(f"{what} {needed / 1e9:,.0f} GB, and {of} has {there_is / 1e9:,.1f} GB: {remedy}")
