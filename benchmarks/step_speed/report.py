"""The figures of `measure` as lines of text, and utilisation."""

from collections.abc import Iterator, Mapping
from typing import Any


def add_utilisation(case: dict[str, Any]) -> None:
    """Add to each side's figures its share of the measured matmul rate and of the datasheet's peak.

    The measured rate is that of the side whose products are fastest.

    Args:
        case: what `measure` returned.
    """
    timed = [result for result in case["results"].values() if "matmul_flops" in result]
    measured = max((result["matmul_flops"] for result in timed), default=None)
    datasheet = next((r["datasheet_flops"] for r in timed if r.get("datasheet_flops")), None)
    case |= {"matmul_flops": measured, "datasheet_flops": datasheet}
    for result in timed:
        rate = result["clips_per_second"] * case["flops_per_clip"]
        result["share_of_matmul"] = rate / measured
        result["share_of_datasheet"] = rate / datasheet if datasheet else None


def lines(case: Mapping[str, Any]) -> Iterator[str]:
    """Lines that show one case.

    Args:
        case: what `measure` returned, with `add_utilisation`.
    """
    first = next(iter(case["results"].values()))
    where = first.get("device", "unknown device")
    yield f"{case['size']}, {case['batch']} clips, {case['dtype']}, on {where}:"
    for name, result in case["results"].items():
        if "clips_per_second" not in result:
            yield f"  {name:10} {result['error']}"
            continue
        each = result["clips_per_second_each"]
        ours = first.get("clips_per_second")
        share = result["share_of_datasheet"]
        cells = (
            f"{result['clips_per_second']:9,.2f} clips/s ({min(each):,.2f} to {max(each):,.2f})",
            f"{result['clips_per_second'] * case['flops_per_clip'] / 1e9:,.0f} GFLOP/s",
            f"{result['share_of_matmul']:.1%} of measured products",
            "" if share is None else f"{share:.1%} of the datasheet",
            f"peak {result['peak_bytes'] / 1e9:.2f} GB",
            f"JAX is {ours / result['clips_per_second']:.2f} ×" if ours and result is not first else "",
        )
        yield f"  {name:10} {', '.join(cell for cell in cells if cell)}"
