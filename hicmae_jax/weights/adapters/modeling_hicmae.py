"""HiCMAE for `transformers`: `AutoModel.from_pretrained(folder, trust_remote_code=True)`.

The model does what `HiCMAE` of `hicmae_torch.py` does, under the same names of parameters.
"""

from os import PathLike
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hicmae_jax.weights.adapters.configuration_hicmae import HiCMAEConfig
from hicmae_jax.weights.torch_model import Behaviour, Stack, copy_companions, read_config


class HiCMAEModel(Behaviour, PreTrainedModel):
    """A pre-training or a fine-tuned model, as `config.kind` says."""

    config_class = HiCMAEConfig
    main_input_name = "video"

    def __init__(self, config: HiCMAEConfig) -> None:
        super().__init__(config)
        self.build(**read_config(config.to_dict()))
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """Compute the buffers that no file holds; the modules have drawn their weights themselves."""
        if isinstance(module, Stack):
            module.restore_constants()

    def save_pretrained(self, save_directory: str | PathLike[Any], *arguments: Any, **options: Any) -> Any:
        """Write a folder that this class and `HiCMAE.from_pretrained` load."""
        super().save_pretrained(save_directory, *arguments, **options)
        copy_companions(Path(self.config._name_or_path), Path(save_directory))
