"""Print a template: a script, or a file of a cluster, that starts a run: `python -m launch.template NAME`.

    python -m launch.template
    python -m launch.template gke_gpu.yaml
    python -m launch.template gke_gpu.yaml --fill="image=registry.example/hicmae:cuda" \
        --fill="hosts of a run=4" --output=run.yaml

The first command lists the templates. The last one fills two blanks, `<image>` and `<hosts of a run>`, and
says on stderr which are left.
"""

import re
import sys
from importlib import resources
from pathlib import Path

from absl import flags

from hicmae_jax.settings import schema
from hicmae_jax.studies import template_text
from launch import command

FLAGS = flags.FLAGS
_DIRECTORY = resources.files("launch") / "templates"
_HEAD = re.compile(r"# (.+?[.:])(?:\s|$)")
"""The first comment of a template, to the end of its first sentence or to its colon."""
_asked: list[str] = []
"""The name on the command line, if there is one."""


def define_flags() -> None:
    """Declare the flags."""
    flags.DEFINE_multi_string("fill", [], "NAME=TEXT fills the blank <NAME>; can be given again.")
    flags.DEFINE_string("output", None, "Write to this new file instead of printing.")


def parse(argv: list[str]) -> list[str]:
    """Parse the command line; the first word may be a template's name."""
    program, *words = argv
    if words and not words[0].startswith("-"):
        _asked.append(words.pop(0))
    return command.parse_flags([program, *words])


def names() -> tuple[str, ...]:
    """Names of the templates, in alphabetical order."""
    return tuple(sorted(file.name for file in _DIRECTORY.iterdir() if file.is_file()))


def read(name: str) -> str:
    """The text of a template.

    Args:
        name: one of `names()`.

    Raises:
        ValueError: one line: there is no such template.
    """
    known = names()
    if name not in known:
        raise ValueError(
            f"there is no template {name}; the nearest is {schema.nearest(name, known)}; without a name the "
            "command lists all"
        )
    return (_DIRECTORY / name).read_text(encoding="utf-8")


def purpose(text: str) -> str:
    """What a template is for, in a line: the beginning of its first comment."""
    found = _HEAD.search(text.removeprefix("#!/usr/bin/env bash\n"))
    return found[1].rstrip(".:") if found else ""


def listing() -> str:
    """The list of templates, a line each."""
    width = max(map(len, names()))
    return "\n".join(f"{name:{width}}  {purpose(read(name))}" for name in names())


def main(argv: list[str]) -> int:
    """Print the list, or a template."""
    del argv
    if not _asked:
        if FLAGS.fill or FLAGS.output:
            raise ValueError("which template? `hicmae template NAME --fill=… --output=…`")
        print(listing())
        return 0
    text = template_text.fill(read(_asked[0]), _values())
    if FLAGS.output is None:
        print(text, end="")
    else:
        _write(Path(FLAGS.output), text)
    if left := template_text.blanks(text):
        print("template: still to fill in: " + ", ".join(f"<{name}>" for name in left), file=sys.stderr)
    return 0


def _values() -> dict[str, str]:
    """Values of the blanks, from the flags."""
    values = {}
    for given in FLAGS.fill:
        name, separator, value = given.partition("=")
        if not separator or not value:
            raise ValueError(f"--fill={given} is not NAME=TEXT")
        values[name.strip("<>")] = value
    return values


def _write(path: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        ValueError: it is there.
        OSError: it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"{path} is there already: remove it, or give another --output") from None


if __name__ == "__main__":
    command.run("template", define_flags, main, parse=parse)
