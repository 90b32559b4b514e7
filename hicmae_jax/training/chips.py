"""Peak rates and memory of accelerators, as their makers state them, for utilisation and rooflines.

The figures of GPUs are those of NVIDIA's datasheets, without sparsity: NVLink's bandwidth for `links`, and
for `network` one port of a DGX for each GPU (400 Gbit/s, A100 200 Gbit/s, both directions added).
"""

import dataclasses
import re

import jax

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator, which JAX shows as one device.

    Attributes:
        name: text that the device's `device_kind` in JAX contains.
        flops: dense bfloat16 operations a second.
        bandwidth: bytes a second from and to main memory; None if this project does not need it.
        memory: bytes of main memory that a program may use; None likewise.
        links: bytes a second over all links to neighbours, sum of both directions; None likewise.
        network: the same to chips of other hosts; None if `links` leads to those, too.
    """

    name: str
    flops: float
    bandwidth: float | None = None
    memory: float | None = None
    links: float | None = None
    network: float | None = None


RESERVED = 0.75
"""Share of a GPU's memory that JAX reserves for programs, unless XLA_PYTHON_CLIENT_MEM_FRACTION is set."""


# The first entry whose name is in `device_kind` applies, so a longer name comes before its beginning.
CHIPS: tuple[Chip, ...] = (
    Chip("B200", 2250e12, 8000e9, RESERVED * 178.36 * GIB, 1800e9, 100e9),
    Chip("H200", 989e12, 4800e9, RESERVED * 141.0 * GIB, 900e9, 100e9),
    Chip("H100 PCIe", 756e12, 2000e9),
    Chip("H100 NVL", 835e12, 3900e9),
    Chip("H100", 989e12, 3350e9, RESERVED * 79.11 * GIB, 900e9, 100e9),
    Chip("A100-SXM4-80GB", 312e12, 2039e9, RESERVED * 79.26 * GIB, 600e9, 50e9),
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
    """The entry of the table for a device; None if there is none, for example for a CPU."""
    return next((chip for chip in CHIPS if chip.name in device.device_kind), None)


def platform(device: jax.Device) -> str:
    """JAX's name of a device's platform (`cpu`, `gpu`, `tpu`), or `cuda` for a GPU whose cuDNN has attention.

    Those are NVIDIA's of compute capability 8 or later. Makers of other GPUs state no such number.
    """
    capability = re.fullmatch(r"(\d+)\.\d+", str(getattr(device, "compute_capability", "")))
    return "cuda" if capability and int(capability[1]) >= 8 else device.platform


def peak_flops(device: jax.Device) -> float | None:
    """Peak bfloat16 operations a second of a device; None if it is not in the table."""
    known = chip(device)
    return known.flops if known else None
