"""A run of minutes on two CPU cores: made-up talking faces and a small model, otherwise the recipe."""

from ml_collections import ConfigDict

from configs import pretrain


def get_config() -> ConfigDict:
    """What the demo changes of the recipe."""
    config = pretrain.get_config("mu")
    config.batch = 32
    config.epochs = config.warmup_epochs = None
    config.steps = 300
    config.warmup_steps = 30

    # Fewer and smaller frames over the same 2.56 s.
    config.model.image_size = 96
    config.model.frames = 8
    config.data.stride = 8
    config.model.encoder_dim = 128
    config.model.encoder_heads = 4
    config.model.encoder_depth = 6
    config.model.decoder_dim = 64
    config.model.decoder_heads = 2
    # The activations of 16 + 26 visible tokens are small enough to keep, and time is short.
    config.model.dtype = "float32"
    config.model.remat_encoder = "none"

    # A small batch has few negatives: take all, and let them count within a few hundred steps.
    config.loss.negatives = "global"
    config.loss.contrastive_weight = 0.1
    config.optimizer.base_rate = 4e-3

    config.checkpoint.every = 50
    config.log.every = 5
    config.evaluation.clips = 32
    return config
