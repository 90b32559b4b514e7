"""Bytes and messages of compiled programs, against counts by hand."""

import pytest

from hicmae_jax.aot.hlo.collectives import Collective, collectives
from hicmae_jax.aot.hlo.program import parse
from hicmae_jax.aot.hlo.traffic import Moved, Walk
from tests.aot.small_programs import ARRAY, ON_CHIP, PIECE, ROW, SEMAPHORE, A, P, R, counted, loop, program


def walked(entry, *computations):
    walk = Walk(parse(program(entry, *computations)))
    return list(walk), walk.unknown_loops


def moved(entry, *computations):
    return sum((each.moved * each.times for each in walked(entry, *computations)[0]), start=Moved())


def main(entry, *computations):
    return moved(entry, *computations).main


# --- Single instructions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (f"%r = {A} add(%a, %b)", 3 * ARRAY),
        (f"%r = {A} multiply(%a, %a)", 3 * ARRAY),
        (f"%r = ({A}, {P}) sort(%a, %p)", 2 * ARRAY + 2 * PIECE),
        (f"%r = {A} bitcast(%a)", 0),
        (f"%r = ({A}, {A}) tuple(%a, %b)", 0),
        (f"%r = {P} slice(%a), slice={{[0:8], [0:128]}}", 2 * PIECE),
        (f"%r = {P} dynamic-slice(%a, %i, %i), dynamic_slice_sizes={{8,128}}", 2 * PIECE),
        (f"%r = {P} gather(%a, %p), slice_sizes={{1,128}}", 3 * PIECE),
        (f"%r = {A} dynamic-update-slice(%a, %p, %i, %i)", 2 * PIECE),
        # Indices and updates are read; the array that is changed is read and written.
        (f"%r = {A} scatter(%a, %b, %p), to_apply=%add", ARRAY + 3 * PIECE),
        (f"%r = ({A}, {A}) scatter(%a, %b, %c, %p, %p), to_apply=%add", ARRAY + 6 * PIECE),
        (f'%r = {A} custom-call(%a, %a, %a, %p), custom_call_target="tpu_custom_call"', 2 * ARRAY + PIECE),
        (f'%r = {A} custom-call(), custom_call_target="AllocateBuffer"', 0),
        (f'%r = {A} custom-call(%p, %p), custom_call_target="ConcatBitcast"', 0),
    ],
)
def test_bytes_of_an_instruction(instruction, expected):
    assert main([instruction]) == expected


def test_padding_and_on_chip_memory_are_counted_separately():
    assert moved([f"%r = {R} negate(%a)"]) == Moved(ARRAY + ROW, 0, ARRAY + PIECE)
    assert moved([f"%r = {ON_CHIP} negate(%a)"]) == Moved(ARRAY, ARRAY, ARRAY)


@pytest.mark.parametrize(
    ("start", "done", "expected"),
    [
        (
            f"({ON_CHIP}, {A}, {SEMAPHORE}) copy-start(%a)",
            f"{ON_CHIP} copy-done(%s)",
            Moved(ARRAY, ARRAY, ARRAY),
        ),
        (
            f"(({A}), f32[8,128]{{1,0:T(8,128)S(1)}}, {SEMAPHORE}) slice-start(%a), slice={{[0:8], [0:128]}}",
            "f32[8,128]{1,0:T(8,128)S(1)} slice-done(%s)",
            Moved(PIECE, PIECE, PIECE),
        ),
        (
            f"({P}, {A}) all-gather-start(%p), dimensions={{0}}",
            f"{A} all-gather-done(%s)",
            Moved(PIECE + ARRAY, 0, PIECE + ARRAY),
        ),
        # The only one whose type does not list its operands.
        (
            f"{A} all-reduce-start(%a), to_apply=%add",
            f"{A} all-reduce-done(%s)",
            Moved(2 * ARRAY, 0, 2 * ARRAY),
        ),
    ],
    ids=["copy", "slice", "message", "sum"],
)
def test_a_start_and_its_done_are_counted_once(start, done, expected):
    assert moved([f"%s = {start}", f"%d = {done}"]) == expected


def test_the_operations_that_a_kernel_declares_are_counted():
    entry = [
        f'%r = {A} custom-call(%a), custom_call_target="tpu_custom_call", backend_config='
        '{"custom_call_config":{"body":"TUzv","cost_estimate":{"flops":"838860800","transcendentals":"7"}}}'
    ]
    ((executed,), _) = walked(entry)
    assert executed.flops == 838860800


# --- Fusions ------------------------------------------------------------------------------------------------

X, Y, Z = f"%x = {A} parameter(0)", f"%y = {P} parameter(1)", "%z = s32[] parameter(2)"
UPDATE = f"%u = {A} dynamic-update-slice(%x, %y, %z, %z)"


def one(result, *body):
    return main([f"%r = {result} fusion(%a, %p, %i), calls=%f"], ("f", X, Y, Z, *body))


def test_a_fusion_reads_its_operands_and_writes_its_result():
    assert one(A, f"%n = {A} negate(%x)", f"ROOT %o = {A} add(%n, %x)") == 2 * ARRAY


def test_a_fusion_that_uses_slices_reads_only_those():
    slices = [f"%{name} = {R} dynamic-slice(%x, %z, %z), dynamic_slice_sizes={{1,128}}" for name in "st"]
    assert one(R, *slices, f"ROOT %o = {R} add(%s, %t)") == 2 * ROW + ROW
    assert one(R, *slices, f"%n = {A} negate(%x)", f"ROOT %o = {R} add(%s, %t)") == ARRAY + ROW
    assert one(R, f"%v = {A} bitcast(%x)", f"ROOT %o = {R} slice(%v), slice={{[0:1]}}") == 2 * ROW


def test_slices_larger_than_the_array_together_count_as_the_array():
    slices = [f"%s{n} = {P} dynamic-slice(%x, %z, %z), dynamic_slice_sizes={{8,128}}" for n in range(3)]
    assert one(P, *slices, f"ROOT %o = {P} add(%s0, %s1)") == ARRAY + PIECE


def test_an_update_in_place_moves_only_the_update():
    assert one(A, f"ROOT {UPDATE}") == 2 * PIECE
    assert one(A, UPDATE, f"ROOT %o = {A} bitcast(%u)") == 2 * PIECE
    second = f"%w = {A} dynamic-update-slice(%u, %y, %z, %z)"
    assert one(A, UPDATE, f"ROOT {second}") == 3 * PIECE
    assert one(A, f"ROOT %o = {A} scatter(%x, %z, %y), to_apply=%add") == 3 * PIECE


def test_an_update_of_an_array_made_in_the_fusion_writes_it_all():
    assert one(A, f"%n = {A} negate(%x)", f"ROOT {UPDATE.replace('%x', '%n')}") == 2 * ARRAY + PIECE


def test_an_update_whose_result_is_used_reads_the_whole_array():
    assert one(A, UPDATE, f"ROOT %o = {A} negate(%u)") == 2 * ARRAY + PIECE


def test_an_array_that_updates_itself_is_read():
    assert one(A, f"ROOT %u = {A} dynamic-update-slice(%x, %x, %z, %z)") == 2 * ARRAY


def test_a_fusion_may_have_several_results():
    root = f"ROOT %o = ({A}, {A}, {P}) tuple(%u, %x, %n)"
    # The update is read and written, and the negated update is written; the array is passed on.
    assert one(f"({A}, {A}, {P})", UPDATE, f"%n = {P} negate(%y)", root) == 3 * PIECE


def test_a_fusion_in_a_fusion_is_counted_by_what_it_does():
    inner = (
        *("g", f"%x = {A} parameter(0)", "%z = s32[] parameter(1)"),
        f"ROOT %s = {R} dynamic-slice(%x, %z, %z), dynamic_slice_sizes={{1,128}}",
    )
    outer = ("f", X, Z.replace("(2)", "(1)"), f"ROOT %o = {R} fusion(%x, %z), calls=%g")
    assert main([f"%r = {R} fusion(%a, %i), calls=%f"], inner, outer) == 2 * ROW
    updating = ("g", X, Y, Z, f"ROOT {UPDATE}")
    around = ("f", X, Y, Z, f"ROOT %o = {A} fusion(%x, %y, %z), calls=%g")
    assert main([f"%r = {A} fusion(%a, %p, %i), calls=%f"], updating, around) == 2 * PIECE


def test_products_of_a_fusion_in_a_fusion_are_counted():
    inner = (
        "g",
        X,
        f"%y = {A} parameter(1)",
        "ROOT %c = f32[16,16] convolution(%x, %y), dim_labels=bf_oi->bf",
    )
    outer = ("f", X, f"%y = {A} parameter(1)", "ROOT %o = f32[16,16] fusion(%x, %y), calls=%g")
    (executed,), _ = walked(["%r = f32[16,16] fusion(%a, %b), calls=%f"], inner, outer)
    assert executed.flops == 2 * 16 * 128 * 16


# --- Loops, branches and calls ------------------------------------------------------------------------------

COUNTING = 3 * 4 + 9  # bytes of numbers: adding one to the counter, and comparing it with the bound


def test_the_trip_counts_of_nested_loops_multiply():
    inner = counted("inner", 5, f"%y = {A} negate(%x)")
    again = [*loop("inner", "%x"), f"%y = {A} get-tuple-element(%while), index=1"]
    outer = counted("outer", 3, *again)
    assert main(loop("inner", "%a"), *inner) == 5 * (2 * ARRAY + COUNTING)
    assert main(loop("outer", "%a"), *inner, *outer) == 3 * (5 * (2 * ARRAY + COUNTING) + COUNTING)


def test_a_loop_of_unknown_trip_count_is_named_and_counted_once():
    computations = counted("some", 5, f"%y = {A} negate(%x)")
    computations[0] = tuple(line.replace("LT", "NE") for line in computations[0])
    executed, unknown = walked(loop("some", "%a"), *computations)
    assert unknown == ["while"]
    assert {each.times for each in executed} == {1}


@pytest.mark.parametrize(
    "branches",
    ["branch_computations={%one, %two}", "true_computation=%one, false_computation=%two", "one, two swapped"],
)
def test_the_branch_that_moves_most_counts(branches):
    steps = [f"%n{step} = {R} negate(%s)" for step in range(3)]  # more instructions, fewer bytes
    row = f"%s = {R} slice(%x), slice={{[0:1], [0:128]}}"
    small = ("one", X, row, *steps, f"ROOT %r = {P} slice(%x), slice={{[0:8], [0:128]}}")
    large = ("two", X, f"%n = {A} negate(%x)", f"ROOT %r = {P} slice(%n), slice={{[0:8], [0:128]}}")
    if branches == "one, two swapped":
        branches = "branch_computations={%two, %one}"
    entry = [f'%r = {P} conditional(%i, %a, %a), {branches}, metadata={{op_name="a/cond"}}']
    assert main(entry, small, large) == 2 * ARRAY + 2 * PIECE


def test_calls_and_asynchronous_calls_are_followed():
    body = ("f", X, f"ROOT %n = {A} negate(%x)")
    start = f"%s = (({A}), {A}, u32[]{{:S(8)}}) call-start(%x), to_apply=%f"
    offload = ("g", X, start, f"ROOT %d = {A} call-done(%s)")
    assert main([f"%r = {A} call(%a), to_apply=%f"], body) == 2 * ARRAY
    entry = [f"%s = (({A}), {A}) call-start(%a), to_apply=%g", f"%d = {A} call-done(%s)"]
    assert main(entry, body, offload) == 2 * ARRAY
    entry = [f"%s = (({A}), {A}) async-start(%a), calls=%f", f"%u = (({A}), {A}) async-update(%s)"]
    assert main([*entry, f"%d = {A} async-done(%u)"], body) == 2 * ARRAY


# --- Messages -----------------------------------------------------------------------------------------------


def messages(entry, *computations):
    return collectives(walked(entry, *computations)[0])


def test_synchronous_messages():
    found = messages(
        [
            f'%r = ({A}, {P}) all-reduce(%a, %p), to_apply=%add, metadata={{op_name="jit(f)/sum"}}',
            f"%g = {A} all-gather(%p), dimensions={{0}}",
            f"%s = {P} reduce-scatter(%a), dimensions={{0}}",
        ]
    )
    assert found == [
        Collective("all-reduce", "jit(f)/sum", 1, ARRAY + PIECE, False),
        Collective("all-gather", "", 1, ARRAY, False),
        Collective("reduce-scatter", "", 1, ARRAY, False),
    ]


@pytest.mark.parametrize(
    ("kind", "start", "result", "size"),
    [
        ("all-gather", f"({P}, {A})", "p", ARRAY),
        ("all-gather", f"(({P}), {A}, {SEMAPHORE}, {SEMAPHORE})", "p", ARRAY),
        ("all-reduce", A, "a", ARRAY),
        ("reduce-scatter", f"(({A}), {P}, {SEMAPHORE})", "a", ARRAY),
        ("collective-permute", f"({P}, {P}, {SEMAPHORE}, {SEMAPHORE})", "p", PIECE),
    ],
)
def test_asynchronous_messages(kind, start, result, size):
    found = messages([f"%s = {start} {kind}-start(%{result})", f"%d = {A} {kind}-done(%s)"])
    assert found == [Collective(kind, "", 1, size, True)]


@pytest.mark.parametrize(
    ("opcode", "asynchronous"), [("async-start", True), ("call-start", True), ("call", False)]
)
def test_a_message_in_a_called_computation(opcode, asynchronous):
    body = ("f", f"%y = {P} parameter(0)", f"ROOT %g = {A} all-gather(%y), dimensions={{0}}")
    attribute = "calls" if opcode == "async-start" else "to_apply"
    found = messages([f"%s = (({P}), {A}, {SEMAPHORE}) {opcode}(%p), {attribute}=%f"], body)
    assert found == [Collective("all-gather", "", 1, ARRAY, asynchronous)]


def test_a_message_in_a_loop_is_sent_each_time():
    body = counted(
        "some", 4, f"%s = {P} slice(%x), slice={{[0:8]}}", f"%y = {A} all-gather(%s), dimensions={{0}}"
    )
    (found,) = messages(loop("some", "%a"), *body)
    assert (found.times, found.bytes, found.total) == (4, ARRAY, 4 * ARRAY)


def test_a_sum_of_which_each_chip_keeps_a_part_is_a_reduce_scatter():
    scatter = (
        "all-reduce-scatter.1",
        X,
        f"%s = {A} all-reduce(%x), to_apply=%add",
        f"ROOT %d = {P} slice(%s)",
    )
    entry = [f'%r = {P} fusion(%a), calls=%all-reduce-scatter.1, metadata={{op_name="jit(f)/dot"}}']
    assert messages(entry, scatter) == [Collective("reduce-scatter", "jit(f)/dot", 1, ARRAY, False)]
    assert main(entry, scatter) == ARRAY + PIECE


def test_a_message_over_several_fusions_is_counted_once():
    """A fusion computes something else between the start and the end of the message."""
    gather = f"%g = {A} all-gather(%y), channel_id=5, dimensions={{0}}"
    taken = [f"%y = {P} parameter(0)", f"%x = {A} parameter(1)", f"%q = {SEMAPHORE} parameter(2)"]
    begun = f"({P}, {A}, {SEMAPHORE})"
    between = f"({A}, {P}, {A}, {A}, {SEMAPHORE})"
    computations = [
        (
            "f",
            taken[0],
            gather,
            f'ROOT %o = {begun} custom-call(%g), custom_call_target="AsyncCollectiveStart"',
        ),
        (
            *("g", *taken, f"%z = {A} parameter(3)", gather, f"%n = {A} negate(%z)"),
            f"ROOT %o = {between} tuple(%n, %y, %x, %g, %q)",
        ),
        (
            *("h", *taken, gather),
            f'ROOT %o = {A} custom-call(%y, %x, %g, %q), custom_call_target="AsyncCollectiveDone"',
        ),
    ]
    entry = [
        f"%s = {begun} fusion(%p), calls=%f",
        *(f"%s{n} = {kind} get-tuple-element(%s), index={n}" for n, kind in enumerate((P, A, SEMAPHORE))),
        f"%m = {between} fusion(%s0, %s1, %s2, %b), calls=%g",
        f"%d = {A} fusion(%s0, %s1, %s2), calls=%h",
    ]
    assert messages(entry, *computations) == [Collective("all-gather", "", 1, ARRAY, True)]
    # At the start the piece is read and the whole written; in between an array is negated.
    assert main(entry, *computations) == PIECE + ARRAY + 2 * ARRAY
