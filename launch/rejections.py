"""How commands report rejected clips, and when there are too many."""

from collections.abc import Mapping
from os import PathLike

from data_pipeline.common.errors import CommandError
from data_pipeline.preparation.builder import REJECTED


def lines(rejected: Mapping[str, int]) -> list[str]:
    """Returns the lines of a summary: the number of rejected clips, then one for each reason."""
    return [
        f"rejected  {sum(rejected.values())}",
        *(f"  {reason:18}{count}" for reason, count in rejected.items()),
    ]


def check(rejected: Mapping[str, int], n_kept: int, output: str | PathLike[str], most: float) -> None:
    """Refuses too large a share of rejected clips.

    Args:
        rejected: number of rejected clips, by reason.
        n_kept: number of the other clips.
        output: directory of the set, for the message.
        most: largest share of rejected clips.

    Raises:
        CommandError: the share is larger.
    """
    n_rejected = sum(rejected.values())
    share = n_rejected / (n_rejected + n_kept)
    if share > most:
        raise CommandError(
            f"{share:.1%} of the clips are rejected, more than --max_rejected_share={most:g}: see "
            f"{output}/{REJECTED}",
            code=2,
        )
