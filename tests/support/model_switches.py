"""Every switch of the pre-training model, its loss and its masks."""

# Name → changes to the tiny model's `ModelConfig`, to `LossConfig` and to `MaskConfig`.
SWITCHES = {
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
