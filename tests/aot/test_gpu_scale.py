"""The GPU tables of docs/scale.md: their cells follow from the figures of a step as the guide explains."""

import pytest

from benchmarks import gpu_scale, tpu_scale
from hicmae_jax.training.chips import CHIPS
from tests.support.paths import ROOT

CHIP = next(chip for chip in CHIPS if chip.name == "H200")
DOCS = (ROOT / "docs/scale.md").read_text(encoding="utf-8")


def figures(*messages, topology="h200:1x8"):
    return {
        "chip": "NVIDIA H200 141GB HBM3e",
        "topology": topology,
        "size": "B",
        "batch": 1_024,
        "clips_per_chip": 128,
        "launches": 2_345,
        "roofline": {"memory_seconds": 0.03, "arithmetic_seconds": 0.02, "bound": "memory"},
        "collectives": [
            {"kind": kind, "total": total, "asynchronous": asynchronous}
            for kind, total, asynchronous in messages
        ],
    }


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def seconds(*messages, topology="h200:1x8"):
    return gpu_scale.message_seconds(figures(*messages, topology=topology))


def test_nvlink_carries_a_sum_twice_and_a_gather_or_scatter_once():
    one = seconds(("all-gather", 1e9, True))
    assert one == pytest.approx(1e9 / (CHIP.links / 2))
    assert seconds(("all-reduce", 1e9, True)) == pytest.approx(2 * one)
    assert seconds(("all-reduce", 1e9, True), ("reduce-scatter", 1e9, True)) == pytest.approx(3 * one)


def test_between_hosts_each_gpu_carries_its_share_over_its_own_port():
    inside = seconds(("all-reduce", 1e9, True))
    both = seconds(("all-reduce", 1e9, True), topology="h200:2x8")
    assert both - inside == pytest.approx(2e9 / 8 / (CHIP.network / 2))
    alone = seconds(("all-reduce", 1e9, True), topology="h200:4x1")
    assert alone == pytest.approx(2e9 / (CHIP.network / 2))


def test_scaling_of_a_step_whose_messages_wait_for_it():
    links = CHIP.links / 2
    one = figures(("all-gather", 0.006 * links, True), ("all-reduce", 0.002 * links, False))
    header, rule, line = map(cells, gpu_scale.scaling_table([one]))
    found = dict(zip(header, line, strict=True))
    assert len(rule) == len(header)
    assert (found["launches a step"], found["asynchronous"]) == ("2,345", "75%")
    assert (found["ms for messages"], found["least ms a step"]) == ("10.0", "30")
    assert found["weak scaling without overlap"] == "75%"
    assert found["clips/s a GPU, at most"] == "3,200"
    # 8 GPUs, 603 samples a second of each core, 0.7 MB a sample.
    assert (found["cores a host"], found["GB/s a host"]) == ("42", "17.9")


def test_a_single_gpu_sends_nothing():
    *_, line = gpu_scale.scaling_table([figures(topology="h200:1x1")])
    assert (cells(line)[5], cells(line)[8]) == ("none", "100%")


def test_both_tables_of_the_guide_have_every_step_of_the_command():
    section = DOCS.split("\n## GPUs")[1]
    expected = sorted((case.size, case.topology, f"{case.batch:,}") for case in gpu_scale.CASES)
    for table in (tpu_scale.steps_table, gpu_scale.scaling_table):
        (header,) = [line for line in section.splitlines() if line == next(table([]))]
        rows = section.split(header)[1].split("\n\n")[0].splitlines()[2:]
        assert sorted(tuple(cells(row)[:3]) for row in rows) == expected
