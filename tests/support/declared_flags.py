"""The flags that the commands of `launch` declare, read from their texts."""

import re

from launch.__main__ import COMMANDS
from tests.support.paths import ROOT


def flags_of(command: str) -> set[str]:
    """Names of the flags that a command and the modules of `launch` that it imports declare."""
    module = COMMANDS[command][0].removeprefix("launch.") if command in COMMANDS else command
    paths, seen = [ROOT / "launch" / f"{module}.py"], set()
    declared = ""
    while paths:
        path = paths.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        source = path.read_text(encoding="utf-8")
        declared += source
        imported = re.findall(r"^from launch import (.+)$", source, re.MULTILINE)
        paths += [ROOT / "launch" / f"{name}.py" for line in imported for name in line.split(", ")]
    return set(re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', declared))
