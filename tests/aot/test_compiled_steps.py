"""The tables of docs/scale.md: their cells follow from the figures of a step as the guide explains."""

import re

import pytest

from benchmarks import compiled_steps, gpu_scale, tpu_scale
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.training.chips import GIB
from tests.support.paths import ROOT

DOCS = (ROOT / "docs/scale.md").read_text(encoding="utf-8")


def figures(*messages):
    return {
        "chip": "TPU v5 lite",
        "topology": "v5e:16x16",
        "size": "B",
        "batch": 16_384,
        "fsdp": 2,
        "clips_per_chip": 64,
        "temp_bytes_per_clip": 64e6,
        "hbm_bytes_per_clip": 400e6,
        "hbm_padded_bytes_per_clip": 1440e6,
        "flops_per_clip": 94e9,
        "analytic_flops_per_clip": 86e9,
        "hbm_per_chip": {"total": 5.25 * GIB, "share": 1 / 3},
        "roofline": {"memory_seconds": 0.03, "arithmetic_seconds": 0.02, "bound": "memory"},
        "collectives": [
            {"total": total, "seconds": seconds, "beside_seconds": beside}
            for total, seconds, beside in messages
        ],
    }


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_costs_of_a_step_in_a_line():
    header, rule, line = map(cells, compiled_steps.steps_table([figures()]))
    assert dict(zip(header, line, strict=True)) == {
        "size": "B",
        "chips": "v5e:16x16",
        "batch": "16,384",
        "fsdp": "2",
        "memory a chip, GiB": "5.2",
        "share of the chip's": "33%",
        "temporaries, MB a clip": "64",
        "traffic, MB a clip": "400 (1,440)",
        "GFLOP a clip": "94.0",
        "GFLOP the model needs": "86.0",
        "least ms a step": "30",
        "bound by": "memory",
    }
    assert len(rule) == len(header)


def test_scaling_of_a_step():
    one = figures((1200e6, 0.006, 0.004), (800e6, 0.004, 0.0))
    header, rule, line = map(cells, compiled_steps.scaling_table([one]))
    found = dict(zip(header, line, strict=True))
    assert len(rule) == len(header)
    assert found["messages a step, MB"] == "2,000"
    assert (found["ms for messages"], found["of them with no other work"]) == ("10.0", "6.0")
    assert found["least ms a step"] == "30"
    assert (found["weak scaling without overlap"], found["weak scaling"]) == ("75%", "83%")
    assert found["clips/s a chip, at most"] == "1,778"
    # 8 chips, 603 samples a second of each core, 0.7 MB a sample.
    assert (found["cores a host"], found["GB/s a host"]) == ("24", "10.0")


def test_steps_of_gpus():
    one = figures((1200e6, 0.006, 0.004)) | {"topology": "h200:2x8", "launches": 2_345}
    for table, name, cell in (
        (gpu_scale.kernels_table, "kernels a step", "2,345"),
        (compiled_steps.scaling_table, "cores a host", "27"),
    ):
        header, _, line = map(cells, table([one]))
        assert dict(zip(header, line, strict=True))[name] == cell


def test_a_single_chip_sends_nothing():
    header, _, line = map(cells, compiled_steps.scaling_table([figures() | {"topology": "h200:1x1"}]))
    found = dict(zip(header, line, strict=True))
    assert (found["messages a step, MB"], found["weak scaling"]) == ("0", "100%")


@pytest.mark.parametrize(("part", "cases"), [(0, tpu_scale.CASES), (1, gpu_scale.CASES)])
def test_the_rows_of_the_guide_are_steps_of_the_command(part, cases):
    section = DOCS.split("\n## GPUs")[part]
    possible = [(case.size, case.topology, f"{case.batch:,}") for case in cases]
    found = []
    for table in (compiled_steps.steps_table, compiled_steps.scaling_table):
        (header,) = [line for line in section.splitlines() if line == next(table([]))]
        rows = section.split(header)[1].split("\n\n")[0].splitlines()[2:]
        found.append([tuple(cells(row)[:3]) for row in rows])
    assert found[0] == found[1] == [row for row in possible if row in found[0]]
    assert found[0]


def test_the_guide_names_settings_that_exist():
    named = set(re.findall(r"--config\.([\w.]*\w)", DOCS))
    assert len(named) >= 7
    assert named <= set(run_config.settings())
