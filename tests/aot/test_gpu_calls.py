"""What NVIDIA's libraries do in a program for GPUs, against counts by hand."""

import pytest

from hicmae_jax.aot.hlo.collectives import collectives
from hicmae_jax.aot.hlo.program import parse
from hicmae_jax.aot.hlo.traffic import Walk

SPACE = "s8[4194304]{0}"


def walked(*lines, computations=""):
    body = "".join(f"  {line}\n" for line in lines)
    return list(Walk(parse(f"{computations}ENTRY %main (a: f32[]) -> f32[] {{\n{body}}}\n")))


def gemm(target, operands, left, right, batch="", rest=""):
    description = (
        f'"gemm_backend_config":{{"alpha_real":1,"dot_dimension_numbers":{{"lhs_contracting_dimensions":[{left}],'
        f'"rhs_contracting_dimensions":[{right}],"lhs_batch_dimensions":[{batch}],'
        f'"rhs_batch_dimensions":[{batch}]}},"epilogue":"DEFAULT"}}'
    )
    return (
        f'custom-call({operands}), custom_call_target="{target}"{rest}, '
        f'backend_config={{"operation_queue_id":'
        f'"0",{description}}}'
    )


# --- cuBLAS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "out", "axes", "flops"),
    [
        ("bf16[30,50]", "bf16[50,70]", "bf16[30,70]", ('"1"', '"0"'), 2 * 30 * 50 * 70),
        # A transposed operand, as in the gradient of a matrix.
        ("bf16[50,30]", "bf16[50,70]", "f32[30,70]", ('"0"', '"0"'), 2 * 30 * 50 * 70),
        # A product for each of four clips.
        ("bf16[4,30,50]", "bf16[4,70,50]", "bf16[4,30,70]", ('"2"', '"2"', '"0"'), 2 * 4 * 30 * 50 * 70),
        # Two dimensions are contracted.
        ("bf16[5,10,30]", "bf16[5,10,70]", "bf16[30,70]", ('"0","1"', '"0","1"'), 2 * 50 * 30 * 70),
    ],
    ids=["plain", "transposed", "batched", "two axes"],
)
@pytest.mark.parametrize("target", ["__cublas$gemm", "__cublas$lt$matmul"])
def test_operations_and_bytes_of_a_product(target, left, right, out, axes, flops):
    (product,) = walked(
        f"%a = {left} parameter(0)",
        f"%b = {right} parameter(1)",
        f"%p = ({out}, {SPACE}) {gemm(target, '%a, %b', *axes)}",
        f"ROOT %r = {out} get-tuple-element(%p), index=0",
    )
    assert product.flops == flops
    arrays = [shape for name in (left, right, out) for shape in parse_shapes(name)]
    assert product.moved.main == sum(arrays)  # and nothing of the 4 MB of workspace


def parse_shapes(text):
    kind, _, sides = text.removesuffix("]").partition("[")
    size = {"bf16": 2, "f32": 4}[kind]
    for side in sides.split(","):
        size *= int(side)
    return [size]


def test_a_product_that_adds_to_an_array_reads_it_and_a_bias_too():
    (product,) = walked(
        "%a = bf16[30,50] parameter(0)",
        "%b = bf16[50,70] parameter(1)",
        "%c = bf16[30,70] parameter(2)",
        "%bias = bf16[70] parameter(3)",
        f"ROOT %p = (bf16[30,70], {SPACE}) "
        + gemm(
            "__cublas$lt$matmul",
            "%a, %b, %c, %bias",
            '"1"',
            '"0"',
            rest=", output_to_operand_aliasing={{0}: (2, {})}",
        ),
    )
    assert product.moved.main == 2 * (30 * 50 + 50 * 70 + 2 * 30 * 70 + 70)


def test_a_result_of_bytes_is_no_workspace_if_it_is_the_only_one():
    (call,) = walked(
        "%a = u8[100] parameter(0)",
        'ROOT %p = u8[200] custom-call(%a), custom_call_target="__cudnn$convForward"',
    )
    assert call.moved.main == 300


def test_the_results_of_another_kernel_are_all_counted():
    (call,) = walked(
        "%a = f32[100] parameter(0)",
        'ROOT %p = (f32[100], u8[64]) custom-call(%a), custom_call_target="__cub$DeviceRadixSort"',
    )
    assert call.moved.main == 864


def test_a_product_without_its_description_is_an_error():
    with pytest.raises(ValueError, match="product p of the compiled program has no lhs_contracting"):
        walked(
            "%a = bf16[30,50] parameter(0)",
            f'ROOT %p = (bf16[30,50], {SPACE}) custom-call(%a), custom_call_target="__cublas$gemm"',
        )


def test_a_product_in_a_fusion_counts():
    computations = f"""%inside (x: bf16[3,30,50]) -> bf16[30,70] {{
  %x = bf16[3,30,50] parameter(0)
  %y = bf16[50,70] parameter(1)
  %first = bf16[1,30,50] slice(%x), slice={{[0:1], [0:30], [0:50]}}
  %matrix = bf16[30,50] bitcast(%first)
  %p = (bf16[30,70], {SPACE}) {gemm("__cublas$gemm", "%matrix, %y", '"1"', '"0"')}
  ROOT %r = bf16[30,70] get-tuple-element(%p), index=0
}}

"""
    (fusion,) = walked(
        "%a = bf16[3,30,50] parameter(0)",
        "%b = bf16[50,70] parameter(1)",
        "ROOT %f = bf16[30,70] fusion(%a, %b), kind=kCustom, calls=%inside",
        computations=computations,
    )
    assert fusion.flops == 2 * 30 * 50 * 70
    assert fusion.moved.main == 2 * (30 * 50 + 50 * 70 + 30 * 70)  # of the array only the slice


# --- cuDNN --------------------------------------------------------------------------------------------------

CLIPS, HEADS, QUERIES, KEYS, CHANNELS = 2, 3, 80, 26, 16
QUERY, KEY = f"bf16[{CLIPS},{QUERIES},{HEADS},{CHANNELS}]", f"bf16[{CLIPS},{KEYS},{HEADS},{CHANNELS}]"
BY_HEAD = {
    "query": f"bf16[{CLIPS},{HEADS},{QUERIES},{CHANNELS}]{{3,1,2,0}}",
    "key": f"bf16[{CLIPS},{HEADS},{KEYS},{CHANNELS}]{{3,1,2,0}}",
}
SUMS = f"f32[{CLIPS},{HEADS},{QUERIES}]"
QUERY_BYTES, KEY_BYTES = 2 * CLIPS * HEADS * QUERIES * CHANNELS, 2 * CLIPS * HEADS * KEYS * CHANNELS
SUM_BYTES = 4 * CLIPS * HEADS * QUERIES
PRODUCT = 2 * CLIPS * HEADS * QUERIES * KEYS * CHANNELS
GIVEN = (f"%q = {QUERY} parameter(0)", f"%k = {KEY} parameter(1)", f"%v = {KEY} parameter(2)")


def test_attention_makes_two_products_and_moves_no_scores():
    (call,) = walked(
        *GIVEN,
        f"ROOT %o = ({BY_HEAD['query']}, {SUMS}, u8[1000]) custom-call(%q, %k, %v), "
        'custom_call_target="__cudnn$fmhaSoftmax"',
    )
    assert call.flops == 2 * PRODUCT
    assert call.moved.main == 2 * QUERY_BYTES + 2 * KEY_BYTES + SUM_BYTES


def test_the_backward_pass_of_attention_makes_five_products():
    (call,) = walked(
        *GIVEN,
        f"%s = {SUMS} parameter(3)",
        f"%of_o = {QUERY} parameter(4)",
        f"%o = {QUERY} parameter(5)",
        f"ROOT %g = ({BY_HEAD['query']}, {BY_HEAD['key']}, {BY_HEAD['key']}, u8[1000]) "
        'custom-call(%q, %k, %v, %s, %of_o, %o), custom_call_target="__cudnn$fmhaSoftmaxBackward"',
    )
    assert call.flops == 5 * PRODUCT
    assert call.moved.main == (3 + 1) * QUERY_BYTES + (2 + 2) * KEY_BYTES + SUM_BYTES


# --- Loops and messages -------------------------------------------------------------------------------------

LOOP = """%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8] get-tuple-element(%p), index=1
  %y = f32[8] negate(%x)
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %t = (s32[], f32[8]) tuple(%next, %y)
}

%condition (p: (s32[], f32[8])) -> pred[] {
  %p = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %ten = s32[] constant(10)
  ROOT %go = pred[] compare(%i, %ten), direction=LT
}

"""


@pytest.mark.parametrize(
    ("known", "kernels"), [(', backend_config={"known_trip_count":{"n":"10"}}', 20), ("", 30)]
)
def test_kernels_of_a_loop(known, kernels):
    """The program tests the condition only where the compiler does not state how often the loop runs."""
    executed = walked(
        "%x = f32[8] parameter(0)",
        "%zero = s32[] constant(0)",
        "%first = (s32[], f32[8]) tuple(%zero, %x)",
        f"ROOT %w = (s32[], f32[8]) while(%first), condition=%condition, body=%body{known}",
        computations=LOOP,
    )
    assert sum(each.times for each in executed) == kernels


@pytest.mark.parametrize(("sync", "asynchronous"), [("true", False), ("false", True)])
def test_a_message_may_wait_for_its_end_though_it_is_written_in_two_parts(sync, asynchronous):
    (message,) = collectives(
        walked(
            "%a = bf16[100] parameter(0)",
            "%s = bf16[100] all-reduce-start(%a), to_apply=%add, backend_config="
            f'{{"collective_backend_config":{{"is_sync":{sync},"is_pipelined":false}}}}',
            "ROOT %d = bf16[100] all-reduce-done(%s)",
        )
    )
    assert (message.kind, message.bytes, message.asynchronous) == ("all-reduce", 200, asynchronous)
