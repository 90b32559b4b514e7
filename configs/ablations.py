"""The paper's ablations and some about masks: `--config=ablations:13/none`.

The argument is `<table>/<row>[,<protocol>]`. Without a protocol it is a pre-training recipe, and with one the
fine-tuning recipe that belongs to it: `--config=ablations:13/none,mafw_11`. `hicmae sizes --ablations` lists
the rows with what they change and cost.
"""

from ml_collections import ConfigDict

from configs import finetune, pretrain
from hicmae_jax.settings import ablations


def get_config(argument: str = "13/all") -> ConfigDict:
    """The published recipe of B with the changes of one row.

    Args:
        argument: `<table>/<row>[,<protocol>]`.

    Raises:
        ValueError: an unknown row or protocol.
    """
    name, *protocol = argument.split(",", 1)
    row = ablations.row(name)
    config = finetune.get_config(*protocol) if protocol else pretrain.get_config("B")
    config.update_from_flattened_dict(row.finetune if protocol else row.pretrain)
    return config
