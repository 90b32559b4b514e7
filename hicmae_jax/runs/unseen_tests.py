"""Refuses training data and initial weights that could have shown the labels of a fold's test clips."""

from collections.abc import Mapping
from typing import Any

from data_pipeline.corpora import protocols
from hicmae_jax.settings.finetune_sections import LabelledDataConfig

SHARED_CLIPS = (("mer2023", "mer2024"),)
"""Data sets of which one has clips of the other: the training part of MER 2024 has the test clips of 2023."""


def check_union(data: LabelledDataConfig) -> None:
    """Refuse further sets that may hold test clips of the first set.

    A further set is trained on as a whole in every fold.

    Args:
        data: the labelled sets and their protocols.

    Raises:
        ValueError: one line with the protocols.
    """
    for name in data.other_protocols:
        if may_share_clips(data.protocol, name):
            raise ValueError(
                f"data.other_protocols: clips of {name} may be test clips of {data.protocol}, but would be "
                "trained on: leave that set out"
            )


def check_weights(data: LabelledDataConfig, weights: str, tuned: Mapping[str, Any]) -> None:
    """Refuse weights of a fine-tuning run that may have been trained on this fold's test clips.

    Args:
        data: the labelled sets, the protocol and the fold.
        weights: where the weights come from.
        tuned: settings by dotted name of the fine-tuning run that has made them; empty for other weights.

    Raises:
        ValueError: one line with the fold of the weights and this one.
    """
    if not tuned:
        return
    fold = (tuned["data.protocol"], tuned["data.fold"])
    same_fold = fold == (data.protocol, data.fold)
    first = () if same_fold else (tuned["data.protocol"],)
    for name in (*first, *tuned["data.other_protocols"]):
        if may_share_clips(data.protocol, name):
            raise ValueError(
                f"initial.weights: {weights} was fine-tuned on {fold[0]}, fold {fold[1]}, and may have seen "
                f"labels of the test clips of {data.protocol}, fold {data.fold}: give other weights"
            )


def may_share_clips(protocol: str, other: str) -> bool:
    """Whether two protocols may have clips in common: of one data set, or of two in `SHARED_CLIPS`."""
    datasets = {protocols.protocol(name).dataset for name in (protocol, other)}
    return len(datasets) == 1 or any(datasets == set(pair) for pair in SHARED_CLIPS)
