"""Peak arithmetic of accelerators, the denominator of model-FLOP utilisation."""

import jax

# Dense bfloat16 FLOP/s of one JAX device, as its maker states them. First match in the device's kind decides.
PEAKS: tuple[tuple[str, float], ...] = (
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("TPU v6", 918e12),
    ("TPU v5p", 459e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v4", 275e12),
)


def peak_flops(device: jax.Device) -> float | None:
    """Peak bfloat16 FLOP/s of a device, None where it is not known, as of a CPU."""
    return next((peak for name, peak in PEAKS if name in device.device_kind), None)
