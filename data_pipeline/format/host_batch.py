"""`HostBatch`: the arrays of one batch, from the reader to the preprocessing inside the training step."""

from typing import Generic, NotRequired, TypedDict, TypeVar

Array = TypeVar("Array")
"""`np.ndarray` on the host, `jax.Array` on the devices."""


class HostBatch(TypedDict, Generic[Array]):
    """Samples as they are stored: uint8 frames and int16 sound, not yet cropped, scaled or normalised.

    A plain dictionary, and so a pytree. B is the number of clips in this part of the batch: a host's rows
    on the host, the global batch on the devices.

    Attributes:
        frames: uint8[B, T, H, W, 3], RGB frames of each sample.
        audio: int16[B, N], mono sound at 16 kHz that belongs to these frames; 0 after its end.
        samples: int32[B], how many of the N samples of `audio` are sound; the rest is padding.
        example: int32[B], id of each clip: its number, counted over all sets.
        replaced: bool[B], whether the clip of this row replaces one that could not be read. Held-out clips
            are never replaced, and their batches do not have this entry.
    """

    frames: Array
    audio: Array
    samples: Array
    example: Array
    replaced: NotRequired[Array]
