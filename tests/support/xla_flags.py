"""The compiler's options for tests.

Most of a test's time is compilation. What optimisations would save later is less, and XLA's older way to emit
fused operations compiles twice as fast.
"""

import importlib.metadata

_LAST_WITH_OLDER_WAY = (0, 10)
"""The last jaxlib known to have it. XLA ends a process that gives it an unknown option."""


def xla_flags(devices: int) -> str:
    """The variable `XLA_FLAGS` of a process with so many virtual CPU devices."""
    options = [f"--xla_force_host_platform_device_count={devices}", "--xla_backend_optimization_level=0"]
    if _version("jaxlib") <= _LAST_WITH_OLDER_WAY:
        options.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(options)


def _version(package: str) -> tuple[int, int]:
    major, minor, *_ = importlib.metadata.version(package).split(".")
    return int(major), int(minor)
