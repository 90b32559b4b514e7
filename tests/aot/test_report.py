"""The figures of a compiled step as lines of text."""

from hicmae_jax.aot.report import report
from tests.support.step_figures import FIGURES


def test_the_report_has_the_figures():
    text = "\n".join(report(FIGURES))
    assert "5.25 GiB a chip: arguments 1.00, temporaries 4.00, program 0.25" in text
    assert "564 MB a clip of main memory (604 with the padding of tiles), 774 with on-chip memory" in text
    assert "93.69 GFLOP a clip, of which the model needs 85.97" in text
    assert "temporaries 64.6 MB a clip" in text
    assert "options     some_option=true" in text
    assert "all-gather    10    3.00     30.00   0.15   0.10  jit(update)/all_gather" in text
    assert "messages    0.15 ms of the links, of which 0.10 ms beside other work: an estimate" in text
    assert "    67.6  video encoder" in text
    assert "    9.83   10 × copy.9" in text
    assert "flops 4.62e+12" in text
    assert "roofline" not in text
    assert "how often they run" not in text
    assert "launches" not in text


def test_the_report_of_a_gpu_has_launches_and_no_count_of_the_compiler():
    text = "\n".join(report(FIGURES | {"launches": 3135, "cost_analysis": {}}))
    assert "launches    3,135 kernels a step; a call of cuBLAS or cuDNN counts as one" in text
    assert "counts each loop's body once" not in text


def test_the_report_has_the_bound_and_the_loops_of_unknown_trip_count():
    bound = {
        "bound": "memory",
        "memory_seconds": 0.014,
        "arithmetic_seconds": 0.0131,
        "clips_per_second_per_chip": 4575.0,
        "model_flop_utilisation": 0.857,
    }
    text = "\n".join(
        report(
            FIGURES
            | {"unknown_loops": ["while.3"], "roofline": bound}
            | {"hbm_per_chip": FIGURES["hbm_per_chip"] | {"share": 0.06}}
        )
    )
    assert "loops       counted once, because the program does not say how often they run: while.3" in text
    assert "bound by memory: 14.0 ms for memory, 13.1 ms for arithmetic; at most 4,575 clips/s" in text
    assert "utilisation 86%" in text
    assert "GiB a chip, 6% of the chip's" in text
