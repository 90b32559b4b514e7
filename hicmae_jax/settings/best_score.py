"""The scores by which the best checkpoint of a pre-training run can be kept, and which of two is better."""

import re
from collections.abc import Mapping

_LAYER = r"layer_\d+"
BETTER: Mapping[str, str] = {
    r"held_out/(total|video|audio|contrastive|contrastive_level_\d+)": "min",
    rf"held_out/recall@(1|5|10)/{_LAYER}(/(video_to_audio|audio_to_video))?": "max",
    rf"geometry/(alignment|uniformity_video|uniformity_audio)/{_LAYER}": "min",
    rf"geometry/rank_(video|audio)/{_LAYER}": "max",
    r"probe/(linear|knn)_(uar|war)": "max",
}
"""Pattern of names in the log → `min` if a lower score is better, `max` if a higher one is."""


def mode(score: str) -> str:
    """Whether a lower or a higher score is better.

    Args:
        score: name in the log.

    Returns:
        `min` or `max`.

    Raises:
        ValueError: no evaluation has a score of this name.
    """
    for pattern, better in BETTER.items():
        if re.fullmatch(pattern, score):
            return better
    raise ValueError(
        f"best {score!r} is no score of an evaluation: give one such as held_out/total, "
        "held_out/recall@1/layer_11, geometry/rank_video/layer_11 or probe/linear_uar"
    )
