"""The ablations: the rows of the paper's tables 13 to 16, and rows of this project about masks.

Each row is what it changes of the published recipes of pre-training and of fine-tuning, which are HiCMAE-B.
`configs/ablations.py` makes recipes of them.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        pretrain: dotted setting of pre-training → its value, where it differs from the recipe.
        finetune: the same for fine-tuning.
    """

    pretrain: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    finetune: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_NO_SKIPS = {"model.skip_connections": False}
_NO_CONTRAST = {"loss.contrastive_weight": 0.0}
_NO_FUSED_FEATURES = {"finetune.feature_fusion": False}


def _weight(value: float) -> Row:
    return Row({"loss.contrastive_weight": value})


def _layers(encoder: int, fusion: int) -> Row:
    return Row({"model.encoder_depth": encoder, "model.fusion_depth": fusion})


def _flow(name: str) -> Row:
    return Row({"model.fusion_flow": name})


def _masks(**choices: Any) -> Row:
    return Row({f"masks.{name}": value for name, value in choices.items()})


def _decoded(fraction: float, kind: str = "random") -> Row:
    return _masks(video_decode_fraction=fraction, audio_decode_fraction=fraction, video_decode_kind=kind)


TABLES: Mapping[str, Mapping[str, Row]] = types.MappingProxyType(
    {
        # The three parts of hierarchical feature learning: skip connections, contrast, feature fusion.
        "13": {
            "none": Row({**_NO_SKIPS, **_NO_CONTRAST}, _NO_FUSED_FEATURES),
            "skips": Row(_NO_CONTRAST, _NO_FUSED_FEATURES),
            "skips-contrast": Row({}, _NO_FUSED_FEATURES),
            "all": Row(),
        },
        # Weight of the contrastive loss.
        "14": {name: _weight(float(name)) for name in ("0", "0.001", "0.0025", "0.005", "0.01", "0.1")},
        # Layers of each encoder and of the fusion encoder, 12 together. The paper does not say which layers
        # are tapped; here they follow from the depth as in the sizes.
        "15": {f"{12 - fusion}-{fusion}": _layers(12 - fusion, fusion) for fusion in (0, 1, 2, 4)},
        # Information flow in the fusion encoder.
        "16": {name: _flow(name) for name in ("default", "raw-input", "video-first", "audio-first")},
        # The paper has no table of masks; it shows reconstructions from medium ones in figure 8.
        "masks": {
            "default": Row(),
            "medium": _masks(video_ratio=0.75, audio_ratio=0.6),
            "video-0.75": _masks(video_ratio=0.75),
            "video-0.95": _masks(video_ratio=0.95),
            "audio-0.6": _masks(audio_ratio=0.6),
            "audio-0.9": _masks(audio_ratio=0.9),
            "video-random": _masks(video_kind="random"),
            "audio-time": _masks(audio_kind="time"),
            "audio-frequency": _masks(audio_kind="frequency"),
        },
        # Dual masking: the share of the masked tokens that is decoded.
        "decoded": {
            "all": Row(),
            "half": _decoded(0.5),
            "half-cells": _decoded(0.5, "running_cell"),
            "quarter": _decoded(0.25),
            "quarter-cells": _decoded(0.25, "running_cell"),
        },
    }
)
"""Table → row → what it changes."""


def names() -> list[str]:
    """The rows as `<table>/<row>`, in the order of the tables."""
    return [f"{table}/{row}" for table, rows in TABLES.items() for row in rows]


def row(name: str) -> Row:
    """A row by its name.

    Args:
        name: `<table>/<row>`.

    Raises:
        ValueError: there is no such row; lists them all.
    """
    table, _, key = name.partition("/")
    if key not in TABLES.get(table, {}):
        raise ValueError(f"{name!r} is not a row: choose one of {', '.join(names())}")
    return TABLES[table][key]
