"""The configuration of HiCMAE for `transformers`, which `AutoConfig.from_pretrained` finds by `auto_map`."""

from transformers import PretrainedConfig


class HiCMAEConfig(PretrainedConfig):
    """Holds every key of `config.json` as an attribute; `hicmae_torch.py` describes them."""

    model_type = "hicmae"
