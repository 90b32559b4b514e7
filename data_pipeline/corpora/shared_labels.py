"""Which classes of two protocols mean the same emotion, to train on several sets or score across them."""

from collections.abc import Mapping
from types import MappingProxyType

from data_pipeline.corpora.protocols import Protocol

EMOTIONS: Mapping[str, str] = MappingProxyType(
    {
        name: emotion
        for emotion, names in {
            "anger": ("ANG", "AN", "A", "anger", "angry"),
            "disgust": ("DIS", "DI", "disgust"),
            "fear": ("FEA", "FE", "fear", "fearful"),
            "happiness": ("HAP", "HA", "H", "happy", "happiness"),
            "neutral": ("NEU", "NE", "N", "neutral"),
            "sadness": ("SAD", "SA", "S", "sad", "sadness"),
            "surprise": ("SU", "surprise", "surprised"),
            "contempt": ("CO",),
            "anxiety": ("AX", "worry"),
            "helplessness": ("HL",),
            "disappointment": ("DS",),
            "calm": ("calm",),
        }.items()
        for name in names
    }
)
"""Class of any protocol → the emotion. Worry (MER) and anxiety (MAFW) count as one."""


def shared_classes(own: Protocol, other: Protocol) -> dict[int, int]:
    """Find the classes that two protocols share.

    Args:
        own: protocol whose classes are kept.
        other: protocol of other data.

    Returns:
        Number of a class of `other` → number of the class of `own` with the same emotion; classes that only
        `other` has are left out.

    Raises:
        ValueError: a protocol has no single emotions as classes, or they share fewer than two.
    """
    for protocol in (own, other):
        if protocol.regression or not set(protocol.outputs) & set(EMOTIONS):
            raise ValueError(f"{protocol.name} has no single emotions as classes, so it shares none")
    numbers = {EMOTIONS[name]: number for number, name in enumerate(own.outputs) if name in EMOTIONS}
    shared = {
        number: numbers[EMOTIONS[name]]
        for number, name in enumerate(other.outputs)
        if EMOTIONS.get(name) in numbers
    }
    if len(shared) < 2:
        raise ValueError(f"{own.name} and {other.name} share fewer than two emotions")
    return shared
