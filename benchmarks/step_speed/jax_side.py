"""One update of this project: the functions of a training run, on one device."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.step_speed import process_memory
from benchmarks.step_speed.cases import BETAS, DECAY, LOSS, MASKS, RATE, SEED, TERMS, Case
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.host_batch import HostBatch
from hicmae_jax.model import initialise, shapes
from hicmae_jax.model.config import CPU_LAYOUT, PLAIN_LAYOUT, ExecutionConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.objective.pretrain import pretrain_loss
from hicmae_jax.preprocessing.pretrain import PreprocessConfig
from hicmae_jax.runs import host_memory
from hicmae_jax.runs.step_loss import pretrain_terms
from hicmae_jax.training import accumulation, chips, compiler_options, sharding
from hicmae_jax.training import state as train_state
from hicmae_jax.training.optimizer import OptimizerConfig, make_optimizer
from hicmae_jax.training.step import make_train_step
from hicmae_jax.weights import parity, torch_names

FPS, SAMPLE_RATE, STORED_SIDE = 25, 16_000, 160


class JaxSide:
    """Makes updates with this project's train step.

    Args:
        case: what is measured.
        name: `jax` or `jax-clips`.
        weights: file to write the initial weights to, under PyTorch's names, if it is not there.
    """

    def __init__(self, case: Case, name: str, weights: Path) -> None:
        model = case.model
        self.case = case
        # As a run does. JAX adds its options to its configuration at run time, so mypy does not know them.
        if host_memory.computes_on_cpus(jax.config.jax_platforms):  # type: ignore[attr-defined]
            host_memory.keep_freed_memory()
        self.device = jax.devices()[0]
        mesh = sharding.make_mesh(devices=[self.device])
        layout = CPU_LAYOUT if self.device.platform == "cpu" else PLAIN_LAYOUT
        by_cudnn = chips.platform(self.device) == "cuda" and case.dtype == "bfloat16"
        attention = case.attention or ("cudnn" if by_cudnn else "xla")
        execution = ExecutionConfig(dtype=case.dtype, attention=attention, layout=layout)
        initial = initialise.initialiser(model, MASKS, execution)
        # The rate hardly changes over so many steps.
        choices = OptimizerConfig(
            kind="adamw",
            base_rate=RATE,
            base_minimum=RATE,
            rate_rule="fixed",
            warmup_epochs=0,
            batch=case.batch,
            betas=BETAS,
            weight_decay=DECAY,
            steps_per_epoch=1,
        )
        optimizer = make_optimizer(choices, shapes.abstract_parameters(model, MASKS, execution))
        abstract = train_state.abstract_state(initial, optimizer, mesh, execution.scan_encoders)
        self.state = train_state.create(initial, optimizer, abstract, initialise.parameter_key(SEED))
        if not weights.exists():
            state: dict[str, Any] = torch_names.state_dict(self.state.params, model.patch)
            np.savez(weights, **state)
        hicmae = HiCMAE(model, execution)
        self.batch: Any
        if name == "jax-clips":
            preprocess = PreprocessConfig(model=model, masks=MASKS)
            terms = pretrain_terms(hicmae, preprocess, LOSS, SEED, mesh)
            self.batch = _host_batch(case)
        else:

            def terms(params: Any, batch: Any, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
                total, values = pretrain_loss(hicmae, params, batch["inputs"], LOSS, mesh)
                return total, {term: values[term] for term in TERMS}

            clips = parity.random_clips(model, MASKS, SEED, case.batch)
            self.batch = {"inputs": clips, "replaced": np.zeros(case.batch, bool)}
        self.batch = jax.device_put(self.batch, sharding.batch_sharding(mesh))
        gradient = accumulation.whole_batch(terms)
        options = compiler_options.of(self.device.platform)
        self._update = make_train_step(gradient, optimizer, choices.schedule(), abstract, mesh, options)
        self._metrics: Any = None

    def step(self) -> None:
        """Begin an update."""
        self.state, self._metrics = self._update(self.state, self.batch)

    def wait(self) -> None:
        """Wait until every update is made."""
        jax.block_until_ready((self.state, self._metrics))

    def compiled_text(self) -> str:
        """The compiled update, as text."""
        update: Any = self._update
        return update.lower(self.state, self.batch).compile().as_text()

    def checked_step(self) -> dict[str, float]:
        """Make an update; return its loss terms and the norm of its gradient."""
        self.step()
        names = {term: f"loss/{term}" for term in TERMS} | {"gradient norm": "norm/gradient"}
        return {name: float(self._metrics[key]) for name, key in names.items()}

    def matmul_rate(self, side: int, repeats: int = 5) -> float:
        """Operations a second of products of square matrices of this side, in the dtype of the case."""
        with jax.default_device(self.device):
            matrix = jnp.ones((side, side), self.case.dtype)
        product = jax.jit(jnp.matmul)
        jax.block_until_ready(product(matrix, matrix))
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            jax.block_until_ready(product(matrix, matrix))
            seconds.append(time.perf_counter() - begun)
        return 2 * side**3 / min(seconds)

    def peak_bytes(self) -> int:
        """Most memory that was in use: of the device, or of the process if the device is the CPU."""
        if self.device.platform == "cpu":
            return process_memory.peak_bytes()
        return (self.device.memory_stats() or {})["peak_bytes_in_use"]

    def about(self) -> dict[str, Any]:
        """Versions and device."""
        return {
            "version": jax.__version__,
            "platform": self.device.platform,
            "device": self.device.device_kind,
            "datasheet_flops": chips.peak_flops(self.device) if self.case.dtype == "bfloat16" else None,
        }


def _host_batch(case: Case) -> HostBatch[np.ndarray]:
    """Noise in the shape in which a host sends clips: frames of 160 × 160, over 2.56 s."""
    rng, model, batch = np.random.default_rng(SEED), case.model, case.batch
    sampling = ClipSampling(model.frames, 64 // model.frames)
    _, samples = sampling.audio_span(0, sampling.window, 2 * sampling.window, FPS, SAMPLE_RATE)
    frames = rng.integers(0, 256, (batch, model.frames, STORED_SIDE, STORED_SIDE, 3), np.uint8)
    return {
        "frames": frames,
        "audio": rng.integers(-(2**12), 2**12, (batch, samples), np.int16),
        "samples": np.full(batch, samples, np.int32),
        "example": np.arange(batch, dtype=np.int32),
        "replaced": np.zeros(batch, bool),
    }
