"""What accelerators can do at most, as their makers state it: what utilisation and rooflines divide by."""

import dataclasses

import jax

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator, as JAX sees one device.

    Attributes:
        name: found in the device's kind.
        flops: dense bfloat16 operations a second.
        bandwidth: of main memory, bytes a second; None where nothing here needs it.
        memory: bytes of main memory that the compiler lets a program have; likewise.
        links: of all its links to neighbours together, bytes a second in both directions; likewise.
    """

    name: str
    flops: float
    bandwidth: float | None = None
    memory: float | None = None
    links: float | None = None


# First match in the device's kind decides.
CHIPS: tuple[Chip, ...] = (
    Chip("H200", 989e12, 4800e9),
    Chip("H100 PCIe", 756e12, 2000e9),
    Chip("H100 NVL", 835e12, 3900e9),
    Chip("H100", 989e12, 3350e9),
    Chip("A100", 312e12),
    Chip("L40S", 362e12),
    Chip("TPU v6", 918e12, 1640e9, 31.25 * GIB, 800e9),
    Chip("TPU v5p", 459e12, 2765e9, 95.74 * GIB, 1200e9),
    Chip("TPU v5 lite", 197e12, 819e9, 15.75 * GIB, 400e9),
    Chip("TPU v5e", 197e12, 819e9, 15.75 * GIB, 400e9),
    Chip("TPU v5", 459e12, 2765e9, 95.74 * GIB, 1200e9),
    Chip("TPU v4", 275e12),
)


def chip(device: jax.Device) -> Chip | None:
    """What a device can do, None where it is not known, as of a CPU."""
    return next((chip for chip in CHIPS if chip.name in device.device_kind), None)


def peak_flops(device: jax.Device) -> float | None:
    """Peak bfloat16 operations a second of a device, None where it is not known."""
    known = chip(device)
    return known.flops if known else None
