"""How sets that are mixed share the batches, where the user does not say it by weights.

In proportion to the clips, a small set is hardly seen beside a large one. In equal shares, it is repeated
many times in one pass over the large one. A temperature T lies between: the share of a set is in proportion
to its clips to the power 1 / T, as for the languages of multilingual models (Arivazhagan et al. 2019, arXiv
1907.05019).
"""

from collections.abc import Sequence

_DIGITS = 9  # decimals of a weight: the last digits of a power differ between machines


def weights_of(clips: Sequence[int], temperature: float) -> list[float]:
    """Weight of each set in the batches: its clips to the power 1 / temperature.

    Args:
        clips: number of clips in each set, at least 1.
        temperature: above 0; 1 counts clips, infinity gives all sets the same weight.

    Raises:
        ValueError: the temperature is so low that a weight is beyond all numbers.
    """
    try:
        return [round(float(count) ** (1 / temperature), _DIGITS) for count in clips]
    except OverflowError:
        raise ValueError(
            f"data.temperature = {temperature} is too low for a set of {max(clips):,} clips: choose a higher "
            "one"
        ) from None


def shares_of(weights: Sequence[float]) -> list[float]:
    """Share of each set in the batches; all together are 1.

    Args:
        weights: positive, in any unit.
    """
    total = sum(weights)
    return [weight / total for weight in weights]
