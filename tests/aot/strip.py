"""Shorten the text of a compiled program to what its figures depend on, and compress it.

    python -m launch.aot --config=pretrain:B --config.batch=256 --config.loss.negatives=global \
      --topology=v5p:2x2x1 --text=b.txt
    python -m tests.aot.strip b.txt tests/aot/step_B_v5p.hlo.xz

    python -m launch.aot --config=pretrain:mu --config.batch=32 --config.loss.negatives=global \
      --topology=h200:1x2 --text=mu.txt
    python -m tests.aot.strip mu.txt tests/aot/step_mu_h200.hlo.xz
"""

import lzma
import re
import sys

# Of the compiler's notes: the axes of a GPU's product, how often a loop runs, whether a message is waited on.
_KEPT = re.compile(r'"lhs_contracting_dimensions":\[[^\]]*\]|"known_trip_count":\{[^}]*\}|"is_sync":\w+')


def stripped(text: str) -> str:
    """The program without where its instructions come from and how the compiler schedules them."""
    body = text[text.index("\n") :]  # the first line describes the module
    body = re.sub(r", (metadata|backend_config|frontend_attributes)=\{.*$", _notes, body, flags=re.M)
    return re.sub(r"^((?:ENTRY )?%[\w.\-]+ \().*\{$", r"\1p: f32[]) -> f32[] {", body, flags=re.M)


def _notes(found: re.Match[str]) -> str:
    kept = ",".join(_KEPT.findall(found[0]))
    return f", backend_config={{{kept}}}" if kept else ""


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file, lzma.open(sys.argv[2], "wt", preset=9) as out:
        out.write(stripped(file.read()))
