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


# Together every switch, for tests in which each combination costs many compilations.
COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("published",),
    ("no skips", "raw-input", "no contrast"),
    ("one tap", "video-first", "heavy contrast, groups"),
    ("paper's skip order", "audio-first", "random and time masks"),
    ("no taps", "appearance only"),
    ("no fusion", "frequency mask, other ratio", "dual masking"),
)


def configs(*switches: str, **model: Any) -> tuple[ModelConfig, LossConfig, MaskConfig]:
    """Configurations of the tiny model with these switches, all clips being negatives of each other.

    Args:
        *switches: names of `SWITCHES`.
        **model: fields of `ModelConfig` that a switch may change.
    """
    of_loss: dict[str, Any] = {"negatives": "global"}
    of_masks: dict[str, Any] = {"video_ratio": 0.5, "audio_ratio": 0.5}
    for switch in switches:
        for fields, changes in zip((model, of_loss, of_masks), SWITCHES[switch]):
            fields.update(changes)
    return tiny_model.model_config(**model), LossConfig(**of_loss), MaskConfig(**of_masks)


assert {switch for combination in COMBINATIONS for switch in combination} == set(SWITCHES)
