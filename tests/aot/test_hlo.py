"""Parsing compiled programs: types, instructions, arithmetic and loops, against counts by hand."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from hicmae_jax.aot.hlo.arithmetic import _pairs, product_flops
from hicmae_jax.aot.hlo.loops import trip_count
from hicmae_jax.aot.hlo.program import parse
from hicmae_jax.aot.hlo.shapes import Shape, element_bits, leaves
from hicmae_jax.aot.hlo.traffic import Walk

# --- Types --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size", "padded"),
    [
        ("f32[3,5]{1,0}", 60, 60),
        ("f32[3,5]{1,0:T(8,128)}", 60, 8 * 128 * 4),
        ("f32[5,3]{0,1:T(4,128)}", 60, 4 * 128 * 4),  # the first dimension varies fastest
        ("bf16[9,130]{1,0:T(8,128)(2,1)}", 2340, 16 * 256 * 2),
        ("bf16[7,9,130]{1,2,0:T(8,128)(2,1)}", 16380, 7 * 136 * 128 * 2),
        ("f32[300]{0:T(256)}", 1200, 512 * 4),
        ("bf16[300]{0:T(1024)(128)(2,1)}", 600, 1024 * 2),
        ("s8[40,128]{1,0:T(32,128)(4,1)}", 5120, 64 * 128),
        ("f32[]{:T(128)}", 4, 4),
        ("pred[10]", 10, 10),
        ("s4[10]{0}", 5, 5),
        ("f8e4m3fn[6]{0}", 6, 6),
        ("c64[3]{0}", 24, 24),
        ("f32[<=6,2]{1,0}", 48, 48),
        ("token[]", 0, 0),
    ],
)
def test_bytes_of_an_array(text, size, padded):
    (shape,) = leaves(text)
    assert (shape.size, shape.padded) == (size, padded)


def test_the_arrays_of_a_tuple_have_their_own_memory_spaces():
    text = (
        "((bf16[6,8]{1,0:T(8,128)(2,1)}), bf16[2,8]{1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}, "
        "/*index=3*/u32[2]{0:S(4)}, pred[])"
    )
    assert leaves(text) == [
        Shape("bf16", (6, 8), (1, 0), (8, 128), 0),
        Shape("bf16", (2, 8), (1, 0), (8, 128), 1),
        Shape("s32", (), (), (), 2),
        Shape("u32", (2,), (0,), (), 4),
        Shape("pred", (), (), (), 0),
    ]


def test_an_unknown_element_type_is_an_error():
    with pytest.raises(ValueError, match="element type 'mystery' of the compiled program is not known"):
        element_bits("mystery")


# --- Instructions -------------------------------------------------------------------------------------------

TEXT = """HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

FileNames
1 "a file (1) {"

FileLocations
1 {file_name_id=1 line=2}

%region_0.1 (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[]{:T(128)} parameter(0)
  %y.1 = f32[]{:T(128)} parameter(1)
  ROOT %add.1 = f32[]{:T(128)} add(%x.1, %y.1)
}, execution_thread="sparsecore"

ENTRY %main.3 (b.1: f32[4], a.1: (f32[4], s32[])) -> (f32[4], f32[]) {
  %a.1 = (f32[4]{0:T(128)}, /*index=1*/s32[]) parameter(1), metadata={op_name="a"}
  %b.1 = f32[4]{0:T(128)} parameter(0)
  %constant.2 = f32[2,2]{1,0} constant({ { 1, 2 }, { 3, 4 } })
  %get-tuple-element.5 = f32[4]{0:T(128)} get-tuple-element(%a.1), index=0
  %sort.1 = (f32[4]{0:T(128)}, f32[4]{0:T(128)}) sort(%get-tuple-element.5, /*index=1*/%b.1), \
dimensions={0}, to_apply=%region_0.1, metadata={op_name="jit(f)/sort, index=9"}, backend_config={"a":"(%no)"}
  %slice.1 = f32[1]{0} slice(%b.1), slice={[0:1]}
  %custom-call.1 = f32[] custom-call(), custom_call_target="AllocateBuffer"
  ROOT %tuple.1 = (f32[4]{0:T(128)}, f32[]) tuple(%b.1, %custom-call.1)
}
"""


def test_a_program_is_parsed_into_computations():
    program = parse(TEXT)
    assert sorted(program.computations) == ["main.3", "region_0.1"]
    main = program.entry
    assert (main.name, main.root, len(list(main))) == ("main.3", "tuple.1", 8)
    assert program.computations["region_0.1"].root == "add.1"
    assert [parameter.name for parameter in main.parameters] == ["b.1", "a.1"]
    assert [user.name for user in main.users["b.1"]] == ["sort.1", "slice.1", "tuple.1"]


def test_an_instruction_is_parsed_into_its_parts():
    main = parse(TEXT).entry
    sort = main["sort.1"]
    assert (sort.opcode, sort.operands) == ("sort", ("get-tuple-element.5", "b.1"))
    assert [shape.dims for shape in sort.shapes] == [(4,), (4,)]
    assert (sort.called("to_apply"), sort.numbers("dimensions")) == ("region_0.1", (0,))
    assert sort.origin == "jit(f)/sort, index=9"
    assert (sort.attribute("direction"), sort.called("body"), sort.numbers("slice_sizes")) == (None, None, ())
    assert main["get-tuple-element.5"].attribute("index") == "0"
    assert (main["constant.2"].operands, main["constant.2"].argument) == ((), "{ { 1, 2 }, { 3, 4 } }")
    assert [shape.dims for shape in main["a.1"].shapes] == [(4,), ()]
    assert (main["custom-call.1"].target, sort.target) == ("AllocateBuffer", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HloModule jit_f\n", "has no entry computation"),
        ("ENTRY %m () -> f32[] {\n  %a = f32[] parameter\n}", "instruction a .* cannot be read: f32"),
        ("ENTRY %m () -> f32[] {\n  %a = (f32[], f32[] b(%c)\n}", "unbalanced parentheses"),
        ("ENTRY %m () -> f32[] {\n  what is this\n}", "a line of the compiled program cannot be read: +what"),
    ],
)
def test_a_text_that_cannot_be_parsed_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


# --- Arithmetic ---------------------------------------------------------------------------------------------


def flops(left, right, out, product):
    main = parse(
        f"ENTRY %m (a: f32[1], b: f32[1]) -> f32[1] {{\n  %a = {left} parameter(0)\n"
        f"  %b = {right} parameter(1)\n  ROOT %c = {out} {product}\n}}"
    ).entry
    return product_flops(main["c"], main)


@pytest.mark.parametrize(
    ("left", "right", "out", "product", "expected"),
    [
        (
            *("f32[3,5]", "f32[5,7]", "f32[3,7]"),
            "dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
            2 * 3 * 5 * 7,
        ),
        (
            *("f32[2,3,5,4]", "f32[2,5,4,7]", "f32[2,3,7]"),
            "dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2,3}, rhs_batch_dims={0}, "
            "rhs_contracting_dims={1,2}",
            2 * 2 * 3 * 20 * 7,
        ),
        # A matrix product, as the TPU compiler writes it.
        ("bf16[3,5]", "bf16[5,7]", "bf16[3,7]", "convolution(%a, %b), dim_labels=bf_io->bf", 2 * 3 * 5 * 7),
        # A batch of 8 × 4 products of (64, 48) and (48, 32): one position of each window meets an element.
        (
            *("bf16[8,64,48,4]", "bf16[8,32,48,4]", "bf16[8,4,64,32]"),
            "convolution(%a, %b), window={size=8x4 stride=7x3 lhs_dilate=8x4}, dim_labels=0bf1_0oi1->01bf",
            2 * 8 * 4 * 64 * 48 * 32,
        ),
        # Images of 6 × 5 and a kernel of 3 × 2 without padding: 4 × 4 outputs.
        (
            *("f32[2,6,5,3]", "f32[3,2,3,8]", "f32[2,4,4,8]"),
            "convolution(%a, %b), window={size=3x2}, dim_labels=b01f_01io->b01f",
            2 * (2 * 4 * 4 * 8) * (3 * 2 * 3),
        ),
        # With a padding of one, the outer outputs of a row of 4 meet 2 elements and the inner ones 3.
        (
            *("f32[1,4,1]", "f32[3,1,1]", "f32[1,4,1]"),
            "convolution(%a, %b), window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f",
            2 * (2 + 3 + 3 + 2),
        ),
        # A row of 7 without its first element; the two kernel positions are two elements apart.
        (
            *("f32[1,7,1]", "f32[2,1,1]", "f32[1,4,1]"),
            "convolution(%a, %b), window={size=2 pad=-1_0 rhs_dilate=2}, dim_labels=b0f_0io->b0f",
            2 * 4 * 2,
        ),
        # Four groups of features: the kernel's input features are those of one group.
        (
            *("f32[2,9,8]", "f32[1,2,12]", "f32[2,9,12]"),
            "convolution(%a, %b), window={size=1}, dim_labels=b0f_0io->b0f, feature_group_count=4",
            2 * (2 * 9 * 12) * 2,
        ),
        # Four groups of the batch: a result's feature sees the two examples of its group.
        (
            *("f32[8,9,3]", "f32[1,3,12]", "f32[2,9,12]"),
            "convolution(%a, %b), window={size=1}, dim_labels=b0f_0io->b0f, batch_group_count=4",
            2 * (2 * 9 * 12) * 3,
        ),
        ("f32[3,5]", "f32[3,5]", "f32[3,5]", "add(%a, %b)", 0),
    ],
    ids=["dot", "batched", "matrix", "dilated", "image", "padding", "crop", "features", "batch", "none"],
)
def test_operations_of_a_matrix_product(left, right, out, product, expected):
    assert flops(left, right, out, product) == expected


def test_pairs_equal_those_counted_one_by_one():
    choices = itertools.product((1, 5), (1, 4), (1, 6), (1, 3, 4), (-2, 0, 3), (1, 2, 6), (1, 2))
    for size, window, outputs, stride, padding, base_dilation, window_dilation in choices:
        elements = {index * base_dilation for index in range(size)}
        met = [k * stride + w * window_dilation - padding for k in range(outputs) for w in range(window)]
        found = _pairs(size, window, outputs, stride, padding, base_dilation, window_dilation)
        assert found == sum(position in elements for position in met)


def test_a_large_window_is_counted_fast():
    # A batch dimension of 2^16, turned into a window; one by one it would take 2^32 steps.
    assert _pairs(2**16, 2**16, 2**16, 2**16 - 1, 0, 2**16, 1) == 2**16


# --- Loops --------------------------------------------------------------------------------------------------

LOOP = """
%body (p: (s32[], s32[], f32[8])) -> (s32[], s32[], f32[8]) {{
  %p = (s32[], s32[], f32[8]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=1
  %x = f32[8]{{0}} get-tuple-element(%p), index=2
  %step = s32[] constant(3)
  %copy.1 = s32[] copy(%i)
  %next = s32[] {next}
  ROOT %t = (s32[], s32[], f32[8]{{0}}) tuple(%next, {kept}, %x)
}}

%compared (a: s32[], b: s32[]) -> pred[] {{
  %a = s32[] parameter(0)
  %b = s32[] parameter(1)
  ROOT %lt = pred[] compare(%b, %a), direction=LT
}}

%added (a.1: s32[], b.1: s32[]) -> s32[] {{
  %a.1 = s32[] parameter(0)
  %b.1 = s32[] parameter(1)
  ROOT %sum = s32[] add(%a.1, %b.1)
}}

%condition (p: (s32[], s32[], f32[8])) -> pred[] {{
  %p = (s32[], s32[], f32[8]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=1
  %ten = s32[] constant(10)
  ROOT %go = pred[] {test}
}}

ENTRY %main (x: f32[8], y: s32[]) -> f32[8] {{
  %x = f32[8]{{0}} parameter(0)
  %y = s32[] parameter(1)
  %two = s32[] constant(2)
  %nine = s32[] constant(9)
  %copy.2 = s32[] copy(%nine)
  %first = (s32[], s32[], f32[8]{{0}}) tuple({start}, %copy.2, %x)
  %while.1 = (s32[], s32[], f32[8]{{0}}) while(%first), condition=%condition, body=%body{known}
  ROOT %r = f32[8]{{0}} get-tuple-element(%while.1), index=2
}}
"""
PLAIN = {
    "start": "%two",
    "test": "compare(%i, %ten), direction=LT",
    "next": "add(%copy.1, %step)",
    "kept": "%n",
    "known": "",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 3),  # 2, 5, 8
        ({"test": "compare(%ten, %i), direction=GT"}, 3),
        ({"test": "compare(%i, %n), direction=LT"}, 3),  # 9 is in the tuple
        ({"test": "compare(%i, %ten), direction=LT", "start": "%nine"}, 1),
        ({"test": "fusion(%ten, %i), kind=kLoop, calls=%compared"}, 3),
        ({"next": "fusion(%step, %i), kind=kLoop, calls=%added"}, 3),
        ({"next": "add(%i, %i)", "known": ', backend_config={"known_trip_count":{"n":"7"}}'}, 7),
        ({"next": "add(%i, %i)"}, None),  # doubles
        ({"next": "multiply(%i, %step)"}, None),
        ({"start": "%y"}, None),
        ({"test": "compare(%i, %n), direction=LT", "kept": "%next"}, None),  # a bound that moves
        ({"test": "compare(%i, %ten), direction=NE"}, None),
        ({"test": "compare(%ten, %i), direction=LE"}, None),
        ({"test": "custom-call(%i, %ten)"}, None),
    ],
)
def test_trip_count_of_a_loop(changes, expected):
    program = parse(LOOP.format(**(PLAIN | changes)))
    assert trip_count(program.entry["while.1"], program.entry, program) == expected


# --- A compiler's own text ----------------------------------------------------------------------------------


def test_all_products_of_a_compiled_scan_in_a_scan_are_counted():
    def layers(x, weights):
        def outer(x, w):
            x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=3)
            return x, None

        return jax.lax.scan(outer, x, weights)[0] @ weights[0]

    x, weights = jax.ShapeDtypeStruct((32, 64), jnp.float32), jax.ShapeDtypeStruct((5, 64, 64), jnp.float32)
    text = jax.jit(layers).lower(x, weights).compile().as_text()
    expected = 2 * 32 * 64 * 64 * (5 * 3 + 1)
    for known in ("known_trip_count", "nothing"):
        walk = Walk(parse(text.replace("known_trip_count", known)))
        assert sum(each.flops * each.times for each in walk) == expected
        assert walk.unknown_loops == []
