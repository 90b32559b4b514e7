"""Activation memory of one pre-training clip, traced without compiling."""

from typing import Any

import jax

from hicmae_jax.model import shapes
from hicmae_jax.model.config import ExecutionConfig, MaskConfig, ModelConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import pretrain_loss


def activation_bytes(
    model: ModelConfig, masks: MaskConfig, execution: ExecutionConfig = ExecutionConfig()
) -> int:
    """Bytes for each clip that the forward pass keeps for the backward pass.

    `jax.vjp` of the whole objective is traced for two clips and for one; the difference of what it keeps
    excludes the parameters. A compiler may fuse some of these arrays away, or need more memory for a moment.

    Args:
        model: geometry and widths.
        masks: of the clips.
        execution: dtype, scan and remat choices, on which the result depends.
    """
    parameters = shapes.abstract_parameters(model, masks, execution)
    loss_config = LossConfig(negatives="global")  # of two clips

    def kept(batch: int) -> int:
        def forward(params: Any, inputs: ModelInputs) -> Any:
            def loss(params: Any) -> jax.Array:
                return pretrain_loss(HiCMAE(model, execution), params, inputs, loss_config)[0]

            return jax.vjp(loss, params)[1]

        return _bytes(jax.eval_shape(forward, parameters, shapes.abstract_inputs(model, masks, batch)))

    return kept(2) - kept(1)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
