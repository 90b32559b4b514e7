"""Time of messages and the part of it beside other work, against counts by hand on small programs."""

import lzma
import subprocess
import sys
from pathlib import Path

import pytest

from hicmae_jax.aot import overlap
from hicmae_jax.aot.hlo.program import parse
from hicmae_jax.aot.hlo.traffic import Walk
from hicmae_jax.training.chips import CHIPS, Chip
from tests.aot import scanned_products
from tests.aot.small_programs import ARRAY, PIECE, SEMAPHORE, A, P, counted, loop, program
from tests.support import tpu_compiler

SLOW = Chip("fast memory, slow links", flops=1e30, bandwidth=3 * ARRAY, links=4 * ARRAY)
"""Adding two arrays takes a second, negating one 2/3; a sum takes a second for each array, a gather half."""
ADD, NEGATE, SUM, GATHER = 1.0, 2 / 3, 1.0, 0.5


def timed(entry, *computations, chip=SLOW):
    parsed = parse(program(entry, *computations))
    return overlap.messages(parsed, list(Walk(parsed)), overlap.Links(chip))


def seconds(entry, *computations):
    """(time, time beside other work) of each message, in the order of the result."""
    return [(each.seconds, each.beside) for each in timed(entry, *computations)]


def gather(name="s", operand="p"):
    return f"%{name} = ({P}, {A}) all-gather-start(%{operand})"


def done(name="d", start="s"):
    return f"%{name} = {A} all-gather-done(%{start})"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (f"%r = {A} all-reduce(%a), to_apply=%add", SUM),
        (f"%r = {A} all-gather(%p), dimensions={{0}}", GATHER),
        (f"%r = {P} reduce-scatter(%a), dimensions={{0}}", GATHER),
        (f"%r = {P} collective-permute(%p)", GATHER * PIECE / ARRAY),
    ],
)
def test_time_of_the_links(message, expected):
    assert seconds([message]) == [pytest.approx((expected, 0))]


def test_a_message_that_waits_costs_its_whole_time_whatever_else_runs():
    assert seconds([f"%g = {A} all-gather(%p)", f"%x = {A} add(%a, %b)"]) == [(GATHER, 0)]


def test_work_between_start_and_done_hides_a_message():
    before, between, after = (f"%{name} = {A} add(%a, %b)" for name in "xyz")
    assert seconds([before, gather(), between, done(), after]) == [(GATHER, GATHER)]
    assert seconds([before, gather(), done(), after]) == [(GATHER, 0)]
    # 2/3 s of work hide all but a third of a sum.
    started = [f"%s = {A} all-reduce-start(%a)", f"%y = {A} negate(%b)", f"%d = {A} all-reduce-done(%s)"]
    assert seconds(started) == [pytest.approx((SUM, NEGATE))]


def test_arithmetic_takes_time_too():
    chip = Chip("slow core", flops=2 * 16 * 128 * 16 / 0.25, bandwidth=1e30, links=4 * ARRAY)
    product = "%y = f32[16,16] dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={1}"
    (found,) = timed([gather(), product, done()], chip=chip)
    assert (found.seconds, found.beside) == (GATHER, 0.25)


def test_messages_on_their_way_together_share_the_work():
    """A second of work hides one of two sums; the one that is awaited first comes first."""
    starts = [f"%{name} = {A} all-reduce-start(%{operand})" for name, operand in (("s", "a"), ("t", "b"))]
    dones = [f"%{name} = {A} all-reduce-done(%{start})" for name, start in (("d", "s"), ("e", "t"))]
    assert seconds([*starts, f"%y = {A} add(%a, %c)", *dones]) == [(SUM, ADD), (SUM, 0)]
    # Work after the first done is for the second message alone.
    assert seconds([*starts, f"%y = {A} add(%a, %c)", dones[0], f"%z = {A} negate(%c)", dones[1]]) == [
        (SUM, ADD),
        pytest.approx((SUM, NEGATE)),
    ]


def test_copies_and_other_messages_hide_nothing():
    other = [f"%c1 = ({A}, {A}, u32[]) copy-start(%a)", f"%c2 = {A} copy-done(%c1)"]
    other.append(f"%g = {A} all-gather(%p)")
    assert seconds([gather(), *other, done()]) == [(GATHER, 0), (GATHER, 0)]


def test_messages_of_a_loop_are_hidden_each_time_by_the_loop_alone():
    inner = (f"%z = {P} slice(%x), slice={{[0:8]}}", gather(operand="z"), f"%w = {A} add(%x, %x)", done())
    body = counted("some", 4, *inner, f"%y = {A} negate(%d)")
    ((time, beside),) = seconds(loop("some", "%a"), *body)
    # Adding an array to itself reads it once for each operand.
    assert (time, beside) == (4 * GATHER, 4 * GATHER)
    outside = [f"%x = {A} add(%a, %b)", *loop("some", "%x")]
    late = counted("some", 4, *inner[:2], done(), f"%y = {A} negate(%d)")
    assert seconds(outside, *late) == [(4 * GATHER, 0)]


def test_a_loop_hides_a_message_around_it_with_the_work_that_its_own_messages_leave():
    # A second of work each time, of which the loop's own message takes half.
    inner = (f"%z = {P} slice(%x), slice={{[0:8]}}", gather(operand="z"), f"%y = {A} add(%x, %x)", done())
    body = counted("some", 4, *inner)
    around = [f"%big = ({A}, f32[1600,128]) all-gather-start(%a)", *loop("some", "%a")]
    around.append("%e = f32[1600,128] all-gather-done(%big)")
    (_, beside), inside = seconds(around, *body)
    assert inside == (4 * GATHER, 4 * GATHER)
    small = 2 * 2 * PIECE / (3 * ARRAY)  # the slice and the counter
    assert 4 * (ADD - GATHER) <= beside < 4 * (ADD - GATHER) + 4 * small


def test_work_of_a_called_computation_hides_a_message():
    body = ("f", f"%x = {A} parameter(0)", f"ROOT %n = {A} negate(%x)")
    called = [gather(), f"%y = {A} call(%a), to_apply=%f", done()]
    assert seconds(called, body) == [(GATHER, GATHER)]
    branch = ["%y = f32[16,128] conditional(%i, %a, %a), branch_computations={%f, %g}"]
    other = ("g", f"%x = {A} parameter(0)", f"ROOT %n = {A} bitcast(%x)")
    assert seconds([gather(), *branch, done()], body, other) == [(GATHER, GATHER)]


def test_a_message_in_an_asynchronous_call():
    body = ("f", f"%y = {P} parameter(0)", f"ROOT %g = {A} all-gather(%y), dimensions={{0}}")
    start = f"%s = (({P}), {A}, {SEMAPHORE}) async-start(%p), calls=%f"
    update, end = f"%u = (({P}), {A}, {SEMAPHORE}) async-update(%s)", f"%d = {A} async-done(%u)"
    assert seconds([start, f"%x = {A} add(%a, %b)", update, end], body) == [(GATHER, GATHER)]
    assert seconds([start, update, end, f"%x = {A} add(%a, %b)"], body) == [(GATHER, 0)]


# --- Messages split over fusions ----------------------------------------------------------------------------

BEGUN = f"({P}, {A}, {SEMAPHORE})"
TAKEN = [f"%y = {P} parameter(0)", f"%x = {A} parameter(1)", f"%q = {SEMAPHORE} parameter(2)"]
MESSAGE = f"%g = {A} all-gather(%y), channel_id=5, dimensions={{0}}"
START = (
    *("f", TAKEN[0], MESSAGE),
    f'ROOT %o = {BEGUN} custom-call(%g), custom_call_target="AsyncCollectiveStart"',
)
BETWEEN = f"({A}, {P}, {A}, {A}, {SEMAPHORE})"
CARRIER = (
    *("g", *TAKEN, f"%z = {A} parameter(3)", MESSAGE, f"%n = {A} negate(%z)"),
    f"ROOT %o = {BETWEEN} tuple(%n, %y, %x, %g, %q)",
)
DONE = (
    *("h", *TAKEN, MESSAGE),
    f'ROOT %o = {A} custom-call(%y, %x, %g, %q), custom_call_target="AsyncCollectiveDone"',
)


def parts(maker, first, name):
    """Elements of a fusion's results: piece, array and semaphore."""
    return [
        f"%{name}{n} = {kind} get-tuple-element(%{maker}), index={first[n]}"
        for n, kind in enumerate((P, A, SEMAPHORE))
    ]


def split(*middle, last="s"):
    ending = f"%d = {A} fusion(%{last}0, %{last}1, %{last}2), calls=%h"
    return [f"%s = {BEGUN} fusion(%p), calls=%f", *parts("s", (0, 1, 2), "s"), *middle, ending]


def carrier(name, before):
    """A fusion that negates an array and hands the message on."""
    fusion = f"%{name} = {BETWEEN} fusion(%{before}0, %{before}1, %{before}2, %b), calls=%g"
    return [fusion, *parts(name, (1, 2, 4), name)]


def test_a_fusion_that_carries_a_message_runs_beside_it():
    assert seconds(split(*carrier("m", "s"), last="m"), START, CARRIER, DONE) == [(GATHER, GATHER)]


def test_only_fusions_that_carry_a_message_run_beside_it():
    idle = f"%z = {A} add(%a, %b)"
    assert seconds(split(idle), START, DONE) == [(GATHER, 0)]
    chip = Chip("slower links", flops=1e30, bandwidth=3 * ARRAY, links=ARRAY)  # a gather takes 2 s
    one = split(idle, *carrier("m", "s"), idle.replace("%z", "%zz"), last="m")
    (found,) = timed(one, START, CARRIER, DONE, chip=chip)
    assert (found.seconds, found.beside) == (2.0, pytest.approx(NEGATE))
    two = split(*carrier("m", "s"), idle, *carrier("k", "m"), last="k")
    (found,) = timed(two, START, CARRIER, DONE, chip=chip)
    assert (found.seconds, found.beside) == (2.0, pytest.approx(2 * NEGATE))


def test_a_fusion_that_carries_two_messages_hides_each_in_turn():
    """Its results say which semaphore belongs to which message."""
    both = [f"%y{m} = {P} parameter({3 * m})" for m in (0, 1)]
    both += [f"%x{m} = {A} parameter({3 * m + 1})" for m in (0, 1)]
    both += [f"%q{m} = {SEMAPHORE} parameter({3 * m + 2})" for m in (0, 1)]
    both += [f"%g{m} = {A} all-gather(%y{m}), dimensions={{0}}" for m in (0, 1)]
    both += [f"%z = {A} parameter(6)", f"%n = {A} negate(%z)"]
    handed = "%y0, %x0, %q0, %y1, %x1, %q1"
    kinds = f"({A}, {P}, {A}, {SEMAPHORE}, {P}, {A}, {SEMAPHORE})"
    shared = ("k", *both, f"ROOT %o = {kinds} tuple(%n, {handed})")
    entry = []
    for name in "st":
        entry += [f"%{name} = {BEGUN} fusion(%p), calls=%f", *parts(name, (0, 1, 2), name)]
    entry.append(f"%m = {kinds} fusion(%s0, %s1, %s2, %t0, %t1, %t2, %b), calls=%k")
    entry += [*parts("m", (1, 2, 3), "u"), *parts("m", (4, 5, 6), "v")]
    entry += [f"%d = {A} fusion(%u0, %u1, %u2), calls=%h", *carrier("w", "v")]
    entry.append(f"%e = {A} fusion(%w0, %w1, %w2), calls=%h")
    # The shared fusion works for 2/3 s: 1/2 for the first message and 1/6 for the second, which has another.
    assert seconds(entry, START, CARRIER, DONE, shared) == [
        pytest.approx((GATHER, GATHER)),
        pytest.approx((GATHER, GATHER)),
    ]
    short = [line for line in entry if not line.startswith(("%w", "%e"))]
    short.append(f"%e = {A} fusion(%v0, %v1, %v2), calls=%h")
    first, second = seconds(short, START, CARRIER, DONE, shared)
    assert (first, second) == (pytest.approx((GATHER, GATHER)), pytest.approx((GATHER, NEGATE - GATHER)))


# --- What the compiler makes of this project's options ------------------------------------------------------

STORED = Path(__file__).with_name("scanned_products_v5e.hlo.xz")


def assert_sums_run_beside_products(text, item=2):
    """The sum of each turn's gradients, of `item` bytes an element, runs beside the next product."""
    parsed = parse(text)
    chip = next(chip for chip in CHIPS if chip.name == "TPU v5 lite")
    (found,) = overlap.messages(parsed, list(Walk(parsed)), overlap.Links(chip))
    size = item * scanned_products.WIDTH**2
    sent = found.collective
    assert (sent.kind, sent.times, sent.bytes) == ("all-reduce", scanned_products.LAYERS, size)
    assert found.seconds == pytest.approx(scanned_products.LAYERS * 2 * size / 200e9)
    assert found.beside == found.seconds


def test_sums_in_a_stored_program_run_beside_products():
    assert_sums_run_beside_products(lzma.decompress(STORED.read_bytes()).decode())


@pytest.mark.slow
@tpu_compiler.needs_libtpu
@pytest.mark.parametrize(("reduce_dtype", "item"), [("computed", 2), ("float32", 4)])
def test_sums_in_a_program_of_todays_compiler_run_beside_products(reduce_dtype, item):
    command = [sys.executable, "-m", "tests.aot.scanned_products", reduce_dtype]
    done = subprocess.run(command, capture_output=True, text=True, env=tpu_compiler.environment())
    assert done.returncode == 0, done.stderr
    assert_sums_run_beside_products(done.stdout, item)


def test_nvlink_carries_a_sum_twice_and_each_gpu_sends_its_share_to_other_hosts():
    gpu = Chip("GPU", flops=1e30, bandwidth=1e30, links=900e9, network=100e9)
    inside = overlap.Links(gpu, hosts=1, chips=8)
    assert inside.seconds("all-gather", 1e9) == pytest.approx(1e9 / 450e9)
    assert inside.seconds("all-reduce", 1e9) == pytest.approx(2e9 / 450e9)
    between = overlap.Links(gpu, hosts=2, chips=8)
    more = between.seconds("all-reduce", 1e9) - inside.seconds("all-reduce", 1e9)
    assert more == pytest.approx(2e9 / 8 / 50e9)
    alone = overlap.Links(gpu, hosts=4, chips=1)
    assert alone.seconds("all-reduce", 1e9) == pytest.approx(2e9 / 50e9)
