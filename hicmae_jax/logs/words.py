"""Wording that several messages share: durations, and how to go on after a failed write."""

REMEDY = "mend that, and give the same command to go on from the last checkpoint"
"""Ends the message of a file of the run that could not be written."""


def duration(seconds: float) -> str:
    """Seconds in words, such as `9.9 s`, `45 s`, `30 min`, `2.5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
