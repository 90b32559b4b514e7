"""Wording that messages share."""

from hicmae_jax.logs.words import duration


def test_durations_in_words():
    seconds = [0.04, 9.94, 10, 119, 120, 1_800, 7_200]
    assert [duration(value) for value in seconds] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "119 s",
        "2 min",
        "30 min",
        "2.0 h",
    ]
