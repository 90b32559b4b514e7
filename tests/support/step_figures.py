"""Figures of a step as `hicmae_jax.aot.figures.figures` gives them."""

from hicmae_jax.training.chips import GIB

FIGURES = {
    "compile_seconds": 142.3,
    "chips": 4,
    "chip": "TPU v5",
    "mesh": {"data": 4, "fsdp": 1},
    "compiler_options": {"some_option": True},
    "clips_per_chip": 64,
    "hbm_bytes_per_clip": 564e6,
    "hbm_padded_bytes_per_clip": 604e6,
    "all_bytes_per_clip": 774e6,
    "flops_per_clip": 93.69e9,
    "analytic_flops_per_clip": 85.97e9,
    "launches": None,
    "temp_bytes_per_clip": 64.6e6,
    "hbm_per_chip": {"arguments": GIB, "temporaries": 4 * GIB, "program": GIB / 4, "total": 5.25 * GIB},
    "roofline": {},
    "collectives": [
        {
            "kind": "all-gather",
            "origin": "jit(update)/all_gather",
            "times": 10,
            "bytes": 3e6,
            "asynchronous": True,
            "total": 3e7,
            "seconds": 1.5e-4,
            "beside_seconds": 1e-4,
        }
    ],
    "hbm_bytes_per_clip_by_part": {"video encoder": 67.6e6},
    "largest": [{"name": "copy.9", "times": 10, "hbm_bytes_per_clip": 9.83e6, "origin": "HiCMAE/transpose"}],
    "unknown_loops": [],
    "cost_analysis": {"flops": 4.62e12},
}
