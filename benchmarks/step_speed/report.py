"""The figures of `measure` as lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any


def lines(case: Mapping[str, Any]) -> Iterator[str]:
    """Lines that show one case.

    Args:
        case: from `measure`.
    """
    results = case["results"]
    devices = {result["about"]["device"] for result in results.values() if "about" in result}
    yield f"{case['size']}, {case['batch']:,} clips, {case['dtype']}, {' and '.join(sorted(devices))}:"
    ours = results.get("jax", {}).get("clips_per_second")
    for name, result in results.items():
        if "clips_per_second" not in result:
            yield f"  {name:10} {result['error']}"
            continue
        each, share = result["clips_per_second_each"], result["share_of_datasheet"]
        cells = (
            f"{result['clips_per_second']:9,.2f} clips/s ({min(each):,.2f} to {max(each):,.2f})",
            f"{result['clips_per_second'] * case['flops_per_clip'] / 1e9:,.0f} GFLOP/s",
            f"{result['share_of_matmul']:.1%} of measured products",
            "" if share is None else f"{share:.1%} of the datasheet",
            f"peak {result['peak_bytes'] / 1e9:.2f} GB",
            f"JAX is {ours / result['clips_per_second']:.2f} ×" if ours and name != "jax" else "",
        )
        yield f"  {name:10} {', '.join(cell for cell in cells if cell)}"
