"""The compiler's options for tests.

Most of a test's time is compilation. What optimisations would save later is less, and XLA's older way to emit
fused operations compiles twice as fast.
"""


def xla_flags(devices: int) -> str:
    """The variable `XLA_FLAGS` of a process with so many virtual CPU devices."""
    return (
        f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0 "
        "--xla_cpu_use_fusion_emitters=false"
    )
