"""Texts of small compiled programs, of arrays whose bytes are known."""

ARRAY = 16 * 128 * 4  # bytes of f32[16,128], which fills its tiles
PIECE = 8 * 128 * 4  # f32[8,128]
ROW = 128 * 4  # f32[1,128], in a tile of 8
A, P, R = (f"f32[{rows},128]{{1,0:T(8,128)}}" for rows in (16, 8, 1))
ON_CHIP = "f32[16,128]{1,0:T(8,128)S(1)}"
SEMAPHORE = "u32[]{:S(2)}"


def program(entry, *computations):
    """Text of a program; the entry has arrays %a, %b, %c of 16 rows, %p of 8 and a number %i."""
    given = "".join(f"  %{name} = {A} parameter({number})\n" for number, name in enumerate("abc"))
    given += f"  %p = {P} parameter(3)\n  %i = s32[]{{:S(6)}} parameter(4)\n"
    lines = "".join(f"  {line}\n" for line in entry)
    bodies = "".join(
        f"%{name} (x: f32[]) -> f32[] {{\n" + "".join(f"  {line}\n" for line in body) + "}\n\n"
        for name, *body in computations
    )
    return f"{bodies}ENTRY %main (a: f32[]) -> f32[] {{\n{given}{lines}}}\n"


STATE = f"(s32[], {A})"


def counted(name, bound, *body):
    """A loop that runs `bound` times over an array, which is %x before the body and %y after it."""
    elements = [f"%t = {STATE} parameter(0)", "%n = s32[] get-tuple-element(%t), index=0"]
    condition = [f"%k = s32[] constant({bound})", "ROOT %lt = pred[] compare(%n, %k), direction=LT"]
    inside = [f"%x = {A} get-tuple-element(%t), index=1", "%k = s32[] constant(1)"]
    return [
        (f"{name}-condition", *elements, *condition),
        (
            f"{name}-body",
            *elements,
            *inside,
            *body,
            "%m = s32[] add(%n, %k)",
            f"ROOT %o = {STATE} tuple(%m, %y)",
        ),
    ]


def loop(name, array):
    return [
        "%zero = s32[] constant(0)",
        f"%first = {STATE} tuple(%zero, {array})",
        f"%while = {STATE} while(%first), condition=%{name}-condition, body=%{name}-body",
    ]
