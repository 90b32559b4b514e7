"""Traffic of fusions in fusions: of random ones against what they were made for, of a real step against
another way to count."""

import lzma

import pytest

from hicmae_jax.aot.hlo.program import parse
from hicmae_jax.aot.hlo.traffic import Moved, Walk
from tests.aot import random_fusions, simple_traffic
from tests.support.paths import ROOT

PROGRAM = ROOT / "tests/aot/step_B_v5p.hlo.xz"
LESS = {"slice", "dynamic-slice", "gather", "dynamic-update-slice", "scatter", "custom-call"}


def moved(program):
    return sum((each.moved * each.times for each in Walk(program)), start=Moved())


@pytest.mark.parametrize("hundred", range(10))
def test_random_fusions_move_what_they_were_made_for(hundred):
    for seed in range(100 * hundred, 100 * hundred + 100):
        text, expected = random_fusions.make(seed)
        assert moved(parse(text)).main == expected, f"seed {seed}\n{text}"


def executed(program):
    """Each instruction that the program executes, with its operands and the bytes that it moves."""
    where = {id(each): computation for computation in program.computations.values() for each in computation}
    for each in Walk(program):
        computation = where[id(each.instruction)]
        operands = [computation[name] for name in each.instruction.operands]
        yield each.instruction, operands, each.moved.main + each.moved.on_chip


def test_a_real_step_moves_all_operands_and_results_but_what_slices_and_updates_leave_out():
    """The step of size B on v5p:2x2x1 with 64 clips a chip, as `launch.aot --text` wrote it (strip.py)."""
    with lzma.open(PROGRAM, "rt") as file:
        program = parse(file.read())
    less = 0
    for instruction, operands, bytes_moved in executed(program):
        everything = simple_traffic.all_bytes(instruction, operands)
        if instruction.opcode == "fusion":
            left_out = simple_traffic.left_out(program, instruction, operands)
            less += left_out > 0
            assert bytes_moved == pytest.approx(everything - left_out, abs=len(operands) + 1), (
                instruction.name
            )
        elif bytes_moved != everything:
            assert instruction.opcode in LESS, instruction.name
            assert bytes_moved < everything
    assert less > 100
    assert round(moved(program).main / 64 / 1e6) == 641  # MB a clip; 534 if inner fusions end a value's way
