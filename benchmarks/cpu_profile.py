"""Where a train step spends its time on a CPU, by the kind of operation.

    python -m benchmarks.cpu_profile --size=T --batch=8

Traces a few updates of the side `jax` of `benchmarks.gpu_step` and sums the time of XLA's operations over all
threads. A fusion counts as a product if there is one in it, else as a sum if it reduces, else as a copy if it
only moves values, else as element-wise arithmetic. *Unrecorded* is the processor time outside all operations
in the trace: XLA hands parts of an operation to other threads, and records only the thread that began it. In
the rest, *waiting*, the cores had nothing to do.
"""

import collections
import glob
import gzip
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from benchmarks.step_speed.cases import SIZES, Case
from benchmarks.step_speed.jax_side import JaxSide
from data_pipeline.common.cores import usable_cores
from hicmae_jax.aot.hlo.program import Program, parse
from launch import command

FLAGS = flags.FLAGS
WARM_UP, TRACED = 2, 3
REDUCES = {"reduce", "reduce-window"}
MOVES = {
    *("bitcast", "broadcast", "concatenate", "constant", "copy", "dynamic-slice", "dynamic-update-slice"),
    *("gather", "iota", "pad", "parameter", "reshape", "slice", "transpose", "tuple", "get-tuple-element"),
}


def kind_of(opcodes: set[str]) -> str:
    """The kind of an operation, from the opcodes in it."""
    if "dot" in opcodes:
        return "products"
    if opcodes & REDUCES:
        return "sums"
    return "copies" if opcodes <= MOVES | {"fusion", "call"} else "element-wise"


def kinds(program: Program) -> dict[str, str]:
    """Name of each instruction → its kind."""

    def inside(name: str) -> set[str]:
        found: set[str] = set()
        for instruction in program.computations[name]:
            found |= opcodes(instruction)
        return found

    def opcodes(instruction: Any) -> set[str]:
        called = instruction.called("calls") or instruction.called("to_apply")
        nested = instruction.opcode in ("fusion", "call") and called
        return {instruction.opcode} | (inside(called) if nested else set())

    return {
        instruction.name: kind_of(opcodes(instruction))
        for computation in program.computations.values()
        for instruction in computation
    }


def traced(side: JaxSide) -> tuple[list[Mapping[str, Any]], float]:
    """The events of XLA's operations in `TRACED` updates, and the processor time of all; times in µs."""
    for _ in range(WARM_UP):
        side.step()
    side.wait()
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            before = time.process_time()
            for _ in range(TRACED):
                side.step()
            side.wait()
            processor = 1e6 * (time.process_time() - before)
        (path,) = glob.glob(f"{directory}/**/*.trace.json.gz", recursive=True)
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
    chosen = [event for event in events if event.get("ph") == "X" and "hlo_op" in event.get("args", {})]
    return chosen, processor


def table(
    events: Sequence[Mapping[str, Any]], processor: float, kind: Mapping[str, str], cores: int
) -> Iterator[str]:
    """Lines of the table.

    Args:
        events: from `traced`.
        processor: from `traced`.
        kind: from `kinds`.
        cores: that computed.
    """
    spent: dict[str, float] = collections.defaultdict(float)
    for event in events:
        spent[kind.get(event["args"]["hlo_op"], "element-wise")] += event["dur"]
    wall = max(event["ts"] + event["dur"] for event in events) - min(event["ts"] for event in events)
    spent["unrecorded"] = max(processor - sum(spent.values()), 0)
    spent["waiting"] = max(cores * wall - processor, 0)
    yield "| kind | ms a step, of all cores | share |"
    yield "|---|---|---|"
    for name, took in sorted(spent.items(), key=lambda item: -item[1]):
        yield f"| {name} | {took / TRACED / 1e3:.0f} | {took / (cores * wall):.0%} |"
    yield f"| {cores} cores × {wall / TRACED / 1e3:.0f} ms | {cores * wall / TRACED / 1e3:.0f} | |"


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_enum("size", "small", SIZES, "Model.")
    flags.DEFINE_integer("batch", 32, "Clips in a step.", lower_bound=2)


def main(argv: Sequence[str]) -> int:
    """Traces, and prints the table; returns the exit code."""
    del argv
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory() as directory:
        side = JaxSide(Case(FLAGS.size, FLAGS.batch, ("jax",), "float32"), "jax", Path(directory) / "w.npz")
    text = side.compiled_text()
    print(*table(*traced(side), kinds(parse(text)), usable_cores()), sep="\n")
    return 0


if __name__ == "__main__":
    command.run("cpu_profile", define_flags, main)
