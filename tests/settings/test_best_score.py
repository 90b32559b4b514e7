"""The scores by which the best checkpoint of a pre-training run can be kept."""

import pytest

from hicmae_jax.settings import best_score


@pytest.mark.parametrize(
    ("score", "better"),
    [
        ("held_out/total", "min"),
        ("held_out/contrastive_level_2", "min"),
        ("held_out/recall@5/layer_11", "max"),
        ("held_out/recall@1/layer_11/video_to_audio", "max"),
        ("geometry/alignment/layer_11", "min"),
        ("geometry/uniformity_audio/layer_7", "min"),
        ("geometry/rank_video/layer_4", "max"),
        ("probe/linear_uar", "max"),
        ("probe/knn_war", "max"),
    ],
)
def test_whether_lower_or_higher_is_better(score, better):
    assert best_score.mode(score) == better


@pytest.mark.parametrize(
    "score", ["total", "held_out/chance@1", "held_out/clips", "probe/chance_uar", "probe/"]
)
def test_what_no_run_should_be_chosen_by_is_refused(score):
    with pytest.raises(ValueError, match=f"best '{score}' is no score of an evaluation: give one such as"):
        best_score.mode(score)
