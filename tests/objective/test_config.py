"""Impossible objectives are refused with the field, its value and what would do."""

import pytest

from hicmae_jax.objective.config import LossConfig


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"negatives": "group:1"}, "group:N"),
        ({"negatives": "local"}, "negatives = 'local'"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"contrastive_weight": -1.0}, "contrastive_weight -1.0"),
    ],
)
def test_losses(choices, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**choices)


def test_group_sizes():
    assert LossConfig(negatives="global").group_size is None
    assert LossConfig(negatives="group:40").group_size == 40
