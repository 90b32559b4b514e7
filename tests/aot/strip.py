"""Shorten the text of a compiled program to what traffic depends on, and compress it.

    python -m launch.aot --config=pretrain:B --config.batch=256 --config.loss.negatives=global \
      --topology=v5p:2x2x1 --text=b.txt
    python -m tests.aot.strip b.txt tests/aot/step_B_v5p.hlo.xz
"""

import lzma
import re
import sys


def stripped(text: str) -> str:
    """The program without where its instructions come from and how the compiler schedules them."""
    body = text[text.index("\n") :]  # the first line describes the module
    body = re.sub(r", (metadata|backend_config|frontend_attributes)=\{.*$", "", body, flags=re.M)
    return re.sub(r"^((?:ENTRY )?%[\w.\-]+ \().*\{$", r"\1p: f32[]) -> f32[] {", body, flags=re.M)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file, lzma.open(sys.argv[2], "wt", preset=9) as out:
        out.write(stripped(file.read()))
