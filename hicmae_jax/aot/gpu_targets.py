"""The GPUs that a step can be compiled for, as XLA's compiler wants them described.

The numbers are those of XLA's own files, `xla/backends/gpu/target_config/specs` in its public repository:
`h200`, `h100_sxm`, `a100_sxm_80` and `b200`. The compiler chooses kernels and their tiles by them.
"""

import dataclasses
from collections.abc import Mapping

CUDNN = (9, 10, 0)
"""Version of cuDNN that the program may use, on every GPU."""

_ACCELERATED = "ACCELERATED_FEATURES"


@dataclasses.dataclass(frozen=True)
class Target:
    """One GPU.

    Attributes:
        device: its name, which JAX shows as `device_kind`.
        capability: compute capability, major number.
        features: instructions beyond those that later GPUs share.
        cores: streaming multiprocessors.
        units: floating-point units of a core.
        shared_memory: of a core, bytes.
        block_memory: shared memory that one block of threads may ask for, bytes.
        bandwidth: of main memory, bytes a second.
        cache: level 2, bytes.
        clock: GHz.
        memory: main memory, bytes.
    """

    device: str
    capability: int
    features: str
    cores: int
    units: int
    shared_memory: int
    block_memory: int
    bandwidth: int
    cache: int
    clock: float
    memory: int

    def config(self) -> str:
        """The description as text, of XLA's message type `GpuTargetConfigProto`."""
        major, minor, patch = CUDNN
        return f"""
            gpu_device_info {{
              threads_per_block_limit: 1024
              threads_per_warp: 32
              threads_per_core_limit: 2048
              block_dim_limit_x: 2147483647
              block_dim_limit_y: 65535
              block_dim_limit_z: 65535
              registers_per_core_limit: 65536
              registers_per_block_limit: 65536
              shared_memory_per_block: 49152
              shared_memory_per_core: {self.shared_memory}
              shared_memory_per_block_optin: {self.block_memory}
              core_count: {self.cores}
              fpus_per_core: {self.units}
              memory_bandwidth: {self.bandwidth}
              l2_cache_size: {self.cache}
              clock_rate_ghz: {self.clock}
              device_memory_size: {self.memory}
              cuda_compute_capability {{ major: {self.capability} feature_extension: {self.features} }}
            }}
            platform_name: "CUDA"
            dnn_version_info {{ major: {major} minor: {minor} patch: {patch} }}
            device_description_str: "{self.device}"
        """


_H200 = Target(
    device="NVIDIA H200 141GB HBM3e",
    capability=9,
    features=_ACCELERATED,
    cores=132,
    units=128,
    shared_memory=233_472,
    block_memory=232_448,
    bandwidth=4_800_000_000_000,
    cache=52_428_800,
    clock=1.98,
    memory=151_397_597_184,
)

TARGETS: Mapping[str, Target] = {
    "h200": _H200,
    # The same chip with other memory.
    "h100": dataclasses.replace(
        _H200, device="NVIDIA H100 80GB HBM3", bandwidth=3_352_320_000_000, memory=84_942_979_072
    ),
    "a100-80": Target(
        device="NVIDIA A100-SXM4-80GB",
        capability=8,
        features="NONE",
        cores=108,
        units=64,
        shared_memory=167_936,
        block_memory=166_912,
        bandwidth=2_039_040_000_000,
        cache=41_943_040,
        clock=1.41,
        memory=85_100_068_864,
    ),
    "b200": Target(
        device="NVIDIA B200",
        capability=10,
        features=_ACCELERATED,
        cores=148,
        units=128,
        shared_memory=233_472,
        block_memory=232_448,
        bandwidth=7_672_320_000_000,
        cache=132_644_864,
        clock=1.965,
        memory=191_514_411_008,
    ),
}
"""Kind of a GPU, as `launch.aot --topology` names it → its description."""
