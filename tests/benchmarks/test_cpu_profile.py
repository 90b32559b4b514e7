"""Operations are counted by what is in them, and the table adds up to the time of all cores."""

import pytest

from benchmarks import cpu_profile
from hicmae_jax.aot.hlo.program import parse

TEXT = """\
HloModule jit_update

%inner (a: f32[4,4], b: f32[4,4]) -> f32[4,4] {
  %a = f32[4,4]{1,0} parameter(0)
  %b = f32[4,4]{1,0} parameter(1)
  %c = f32[4,4]{1,0} transpose(%b), dimensions={1,0}
  ROOT %p = f32[4,4]{1,0} dot(%a, %c), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%moved (d: f32[4,4]) -> f32[16] {
  %d = f32[4,4]{1,0} parameter(0)
  %e = f32[4,4]{1,0} transpose(%d), dimensions={1,0}
  ROOT %f = f32[16]{0} reshape(%e)
}

ENTRY %main (x: f32[4,4], y: f32[4,4]) -> f32[16] {
  %x = f32[4,4]{1,0} parameter(0)
  %y = f32[4,4]{1,0} parameter(1)
  %ynn_fusion = f32[4,4]{1,0} fusion(%x, %y), kind=kCustom, calls=%inner
  %sum.1 = f32[4,4]{1,0} add(%ynn_fusion, %y)
  ROOT %copy_fusion = f32[16]{0} fusion(%sum.1), kind=kLoop, calls=%moved
}
"""


def test_a_fusion_counts_by_what_is_in_it():
    kinds = cpu_profile.kinds(parse(TEXT))
    found = {name: kinds[name] for name in ("ynn_fusion", "sum.1", "copy_fusion")}
    assert found == {"ynn_fusion": "products", "sum.1": "element-wise", "copy_fusion": "copies"}
    assert cpu_profile.kind_of({"multiply", "reduce", "parameter"}) == "sums"
    assert cpu_profile.kind_of({"fusion", "multiply", "copy"}) == "element-wise"


def test_the_rows_add_up_to_the_time_of_all_cores():
    events = [
        {"ts": 0, "dur": 600, "args": {"hlo_op": "a"}},
        {"ts": 600, "dur": 400, "args": {"hlo_op": "b"}},
        {"ts": 100, "dur": 200, "args": {"hlo_op": "a"}},
    ]
    lines = list(cpu_profile.table(events, 1_500, {"a": "products", "b": "copies"}, cores=2))
    shares = {line.split(" | ")[0].strip("| "): line.split(" | ")[2].strip(" |") for line in lines[2:-1]}
    assert shares == {"products": "40%", "waiting": "25%", "copies": "20%", "unrecorded": "15%"}
    assert sum(float(share.strip("%")) for share in shares.values()) == pytest.approx(100)
