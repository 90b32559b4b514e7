"""One side in a process of its own, so that each has all memory, and its peak is its own.

    python -m benchmarks.step_speed.child SIDE CASE WEIGHTS

CASE is JSON. The process reads one JSON list a line from stdin, `[method, argument …]`, and writes one JSON
object a line to stdout, `{"value": …}` or `{"error": …}`. It ends with its stdin or after an error.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.step_speed import process_memory
from benchmarks.step_speed.cases import Case
from data_pipeline.common.errors import typed_line

OUT_OF_MEMORY = ("out of memory", "RESOURCE_EXHAUSTED")
"""Found in the errors of PyTorch and of JAX."""


def make(name: str, case: Case, weights: Path) -> Any:
    """Make a side; the first one of a case writes the weights that the others read."""
    if name.startswith("jax"):
        from benchmarks.step_speed.jax_side import JaxSide

        return JaxSide(case, name, weights)
    from benchmarks.step_speed.torch_side import TorchSide

    return TorchSide(case, name, weights)


def window(side: Any, steps: int) -> float:
    """Make updates; return their time in seconds."""
    begun = time.perf_counter()
    for _ in range(steps):
        side.step()
    side.wait()
    return time.perf_counter() - begun


def check(side: Any, steps: int) -> list[dict[str, float]]:
    """Make updates; return the losses and the norm of the gradient of each."""
    values = [side.checked_step() for _ in range(steps)]
    process_memory.forget_peak()
    return values


def serve(side: Any, reply: Callable[..., None]) -> None:
    """Do what each line of stdin says."""
    of_updates = {"check": check, "window": window}
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        if method in of_updates:
            reply(value=of_updates[method](side, *arguments))
        else:
            reply(value=getattr(side, method)(*arguments))


def main() -> None:
    """Makes the side that the command line names, and serves it."""
    # Libraries write to stdout too; what they write must not disturb the parent.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    name, case, weights = sys.argv[1:]
    try:
        serve(make(name, Case(**json.loads(case)), Path(weights)), reply)
    except (RuntimeError, ValueError, TypeError, OSError, ImportError) as error:
        message = typed_line(error, 300)
        reply(error="out of memory" if any(words in message for words in OUT_OF_MEMORY) else message)


if __name__ == "__main__":
    main()
