"""Writing the directory of a run without training: checkpoints of a tiny model, and metrics."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from configs import pretrain
from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.logs.metrics import MetricsLog
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.settings.pretrain import PretrainSettings
from tests.support import tiny_model
from tests.support.xla_flags import xla_flags

MODEL = tiny_model.model_config(audio_bins=128)


def config(data: Path | str, scan_encoders: bool = False, **model: Any) -> PretrainSettings:
    """Settings of a run of the tiny model, with changes to some fields of the model."""
    settings = pretrain.get_config("mu,runlocal")
    settings.data.sets = (str(data),)
    settings.masks.video_ratio = settings.masks.audio_ratio = 0.5
    for name, value in (dataclasses.asdict(MODEL) | model).items():
        settings.model[name] = value
    settings.execution.update(scan_encoders=scan_encoders, remat_encoder="none")
    return run_config.from_config_dict(settings, "cpu")


def write_run(root: Path, run: PretrainSettings, steps: tuple[int, ...] = (3,)) -> Path:
    """Write checkpoints, whose step is the seed of their parameters, and a log of three lines."""
    record = {"config": run.to_dict(), "versions": {}, "data": {}}
    with Checkpoints(root) as checkpoints:
        for step in steps:
            state = {"params": parameters(run, step), "step": np.int32(step)}
            checkpoints.save(step, state, record)
    with MetricsLog(root) as log:
        for step in range(3):
            log.write(step, {"loss/total": 3.0 - step, "loss/video": 2.0 - step, "rate": 0.1})
    return root


def parameters(run: PretrainSettings, step: int) -> Any:
    return tiny_model.parameters(run.model, seed=step, masks=run.masks, execution=run.execution)


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run ``python -m name`` on one device, compiled as quickly as can be, and wait for its end."""
    environment = os.environ | {"XLA_FLAGS": xla_flags(1)}
    return subprocess.run(
        [sys.executable, "-m", name, *arguments], capture_output=True, text=True, env=environment
    )
