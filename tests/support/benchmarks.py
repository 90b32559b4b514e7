"""Running a benchmark as its user does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def figures_of(module: str, file: Path, *words: str) -> dict[str, Any]:
    """Run a benchmark of the package `benchmarks` with ``--json=file``, and return what it wrote there."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *words, f"--json={file}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text(encoding="utf-8"))
