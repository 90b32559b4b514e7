"""One update in PyTorch: `hicmae_jax/weights/torch_model.py` with AdamW, in several styles."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.step_speed import process_memory
from benchmarks.step_speed.boolean_masks import BooleanMaskModel
from benchmarks.step_speed.cases import BETAS, DECAY, LOSS, MASKS, RATE, SEED, TERMS, Case
from hicmae_jax.weights import parity
from hicmae_jax.weights.torch_model import PretrainModel, pretrain_loss

PREFERRED = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
Terms = dict[str, Tensor]


class TorchSide:
    """Makes updates with PyTorch.

    Args:
        case: what is measured.
        name: `eager`, `published` or `strong`.
        weights: file of the initial weights.
    """

    def __init__(self, case: Case, name: str, weights: Path) -> None:
        self.case, self.name = case, name
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self.device.type == "cuda"
        torch.set_float32_matmul_precision("high" if case.dtype == "bfloat16" else "highest")
        kind = BooleanMaskModel if name == "published" else PretrainModel
        with np.load(weights) as state:
            self.model = kind(parity.torch_config(case.model), LOSS.frame_difference)
            self.model.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
        self.model.to(self.device)
        decaying = {name: p.ndim > 1 and name != "mask_token" for name, p in self.model.named_parameters()}
        groups = [
            {
                "params": [p for name, p in self.model.named_parameters() if decaying[name] == decays],
                "weight_decay": DECAY if decays else 0.0,
            }
            for decays in (True, False)
        ]
        fused = True if name == "strong" else None
        self.optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=1e-8, fused=fused)
        published_on_gpu = name == "published" and on_gpu
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=published_on_gpu)
        self.autocast = torch.float16 if published_on_gpu else torch.bfloat16
        self.inputs = _inputs(case, self.device, boolean=name == "published")
        self.loss: Callable[[], Terms] = torch.compile(self._loss) if name == "strong" else self._loss

    def _loss(self) -> Terms:
        low = self.case.dtype != "float32"
        with torch.autocast(self.device.type, self.autocast, enabled=low):
            output = self.model(*self.inputs)
        terms: Any = pretrain_loss(output, LOSS.temperature, LOSS.contrastive_weight, LOSS.group_size)
        return {term: terms[term] for term in TERMS}

    def _backward(self) -> Terms:
        choice = (
            sdpa_kernel(PREFERRED, set_priority=True) if self.name == "strong" else contextlib.nullcontext()
        )
        with choice:
            terms = self.loss()
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(terms["total"]).backward()
        return terms

    def _update(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def step(self) -> None:
        """Begin an update; the published style waits for its loss."""
        terms = self._backward()
        self._update()
        if self.name == "published":
            terms["total"].item()

    def wait(self) -> None:
        """Wait until every update is made."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def checked_step(self) -> dict[str, float]:
        """Make an update; return its loss terms and the norm of its gradient."""
        while True:
            terms = self._backward()
            self.scaler.unscale_(self.optimizer)
            grads = [p.grad for p in self.model.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            before = self.scaler.get_scale()
            self._update()
            if self.scaler.get_scale() >= before:  # otherwise the scaler has skipped the update
                return {term: value.item() for term, value in terms.items()} | {"gradient norm": norm.item()}

    def matmul_rate(self, side: int, repeats: int = 5) -> float:
        """Operations a second of products of square matrices of this side, in the dtype of the case."""
        matrix = torch.ones((side, side), dtype=getattr(torch, self.case.dtype), device=self.device)
        matrix @ matrix
        self.wait()
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            matrix @ matrix
            self.wait()
            seconds.append(time.perf_counter() - begun)
        return 2 * side**3 / min(seconds)

    def peak_bytes(self) -> int:
        """Most memory that was in use: of the device, or of the process if the device is the CPU."""
        if self.device.type == "cpu":
            return process_memory.peak_bytes()
        return torch.cuda.max_memory_allocated()

    def about(self) -> dict[str, Any]:
        """Versions and device."""
        on_gpu = self.device.type == "cuda"
        return {
            "version": torch.__version__,
            "platform": "gpu" if on_gpu else "cpu",
            "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        }


def _inputs(case: Case, device: torch.device, boolean: bool) -> tuple[Any, ...]:
    """The clips of `parity.random_clips` with their masks: indices, or booleans, true where masked."""
    clips = parity.random_clips(case.model, MASKS, SEED, case.batch)
    tensors = jax.tree.map(lambda array: torch.tensor(np.asarray(array), device=device), clips)
    masks: Any = [
        (mask.visible.long(), mask.masked.long()) for mask in (tensors.video_mask, tensors.audio_mask)
    ]
    if boolean:
        tokens = case.model.video_tokens, case.model.audio_tokens
        masks = [
            torch.zeros((case.batch, count), dtype=torch.bool, device=device).scatter_(1, masked, True)
            for count, (_, masked) in zip(tokens, masks)
        ]
    return tensors.video, tensors.log_mel, *masks
