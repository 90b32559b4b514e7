"""Every choice of model, loss and masks that changes the loss: name → changes of each configuration."""

from typing import Any

from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig
from tests.support import tiny_model

SWITCHES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "published": ({}, {}, {}),
    "no skips": ({"skip_connections": False}, {}, {}),
    "no taps": ({"skip_layers": ()}, {}, {}),
    "one tap": ({"skip_layers": (2,)}, {}, {}),
    "paper's skip order": ({"skip_order": "shallowest-first"}, {}, {}),
    "no contrast": ({}, {"contrastive_weight": 0.0}, {}),
    "heavy contrast, groups": ({}, {"contrastive_weight": 0.5, "negatives": "group:2"}, {}),
    "no fusion": ({"fusion_depth": 0, "encoder_depth": 4, "skip_layers": (2, 4)}, {}, {}),
    "raw-input": ({"fusion_flow": "raw-input", "fusion_depth": 2}, {}, {}),
    "video-first": ({"fusion_flow": "video-first", "fusion_depth": 2}, {}, {}),
    "audio-first": ({"fusion_flow": "audio-first", "fusion_depth": 2}, {}, {}),
    "appearance only": ({}, {"frame_difference": False}, {}),
    "random and time masks": ({}, {}, {"video_kind": "random", "audio_kind": "time"}),
    "frequency mask, other ratio": ({}, {}, {"audio_kind": "frequency", "video_ratio": 0.75}),
    "dual masking": ({}, {}, {"video_decode_fraction": 0.5, "audio_decode_fraction": 0.5}),
}


def configs(switch: str, **model: Any) -> tuple[ModelConfig, LossConfig, MaskConfig]:
    """Configurations of the tiny model with one switch, all clips being negatives of each other.

    Args:
        switch: a name of `SWITCHES`.
        **model: fields of `ModelConfig` that the switch may change.
    """
    of_model, of_loss, of_masks = SWITCHES[switch]
    return (
        tiny_model.model_config(**model | of_model),
        LossConfig(**{"negatives": "global"} | of_loss),
        MaskConfig(**{"video_ratio": 0.5, "audio_ratio": 0.5} | of_masks),
    )
