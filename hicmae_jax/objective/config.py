"""The settings of the pre-training objective."""

import dataclasses

from data_pipeline.common.setting import check_limits, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The pre-training objective (paper equations 8 to 11).

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    contrastive_weight: float = setting(0.0025, "λ of equation 11; 0 switches contrast off", at_least=0)
    temperature: float = setting(0.07, "τ of equation 9", above=0)
    negatives: str = setting(
        "group:40",
        "global: all other clips of the batch; group:N: those of each N consecutive clips, as the published "
        "run on each of its GPUs",
    )
    frame_difference: bool = setting(
        True, "reconstruct a tubelet's first frame and the change to its second, instead of both frames"
    )

    def __post_init__(self) -> None:
        """Check the choices."""
        check_limits(self)
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
