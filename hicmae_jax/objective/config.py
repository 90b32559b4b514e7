"""The choices of the pre-training objective."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The pre-training objective (paper equations 8 to 11).

    Attributes:
        contrastive_weight: λ of equation 11.
        temperature: τ of equation 9.
        negatives: `global`, every other clip of the batch, or `group:N`, the others of each N consecutive
            clips (`group:40` is what the published run optimised on each of its GPUs).
        frame_difference: reconstruct the first frame of a tubelet and the change to its second, instead of
            both frames.
    """

    contrastive_weight: float = 0.0025
    temperature: float = 0.07
    negatives: str = "group:40"
    frame_difference: bool = True

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        if self.temperature <= 0 or self.contrastive_weight < 0:
            raise ValueError(
                f"temperature {self.temperature} must be positive, contrastive_weight "
                f"{self.contrastive_weight} not negative"
            )
        _ = self.group_size

    @property
    def group_size(self) -> int | None:
        """Clips in a group of negatives, None for the whole batch."""
        if self.negatives == "global":
            return None
        kind, _, size = self.negatives.partition(":")
        if kind != "group" or not size.isdecimal() or int(size) < 2:
            raise ValueError(
                f"negatives = {self.negatives!r}: choose `global` or `group:N` with N of at least 2"
            )
        return int(size)
