"""Every test runs on the CPU, as eight virtual devices, wherever the machine has an accelerator."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of a test's time is compilation, and of that the last tenth of speed, which tests have no use for.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0"
)
