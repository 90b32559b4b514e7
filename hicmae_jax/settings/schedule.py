"""Length and warm-up of a run: in epochs or in steps, the warm-up in clips too."""

from collections.abc import Mapping
from typing import Any


def length_and_warmup(values: Mapping[str, Any]) -> tuple[int, int, int | None]:
    """Find how long a run is, of which either the epochs or the steps are given.

    Args:
        values: of all settings, by dotted name.

    Returns:
        Length and warm-up in the unit that is given, and the warm-up in clips; of these two warm-ups the one
        that is not given is 0 or None.

    Raises:
        ValueError: one line: both units or none, or a warm-up that does not fit the length.
    """
    epochs, steps, examples = (values[name] for name in ("epochs", "steps", "warmup_examples"))
    if (epochs is None) == (steps is None):
        both = "both none" if steps is None else "both given"
        raise ValueError(
            f"epochs {epochs} and steps {steps} are {both}: give one of them, with its warm-up, and none for "
            "the other two"
        )
    unit, other = ("epochs", "steps") if steps is None else ("steps", "epochs")
    length, warmup = values[unit], values[f"warmup_{unit}"]
    if examples is not None:
        for name in ("warmup_epochs", "warmup_steps"):
            if values[name] is not None:
                raise ValueError(
                    f"warmup_examples {examples} and {name} {values[name]} are both given: one must be none"
                )
        most = (length - 1) * values["batch"]
        if unit == "steps" and examples > most:
            raise ValueError(
                f"warmup_examples {examples} is not in 0 … {most}, short of steps {length} of batch "
                f"{values['batch']}"
            )
        return length, 0, examples
    if warmup is None or values[f"warmup_{other}"] is not None:
        raise ValueError(f"{unit} {length} goes with warmup_{unit}, and with warmup_{other} none")
    if not 0 <= warmup < length:
        raise ValueError(f"warmup_{unit} {warmup} is not in 0 … {length - 1}, short of {unit} {length}")
    return length, warmup, None
