"""List the protocols of the emotion data sets: `python -m launch.protocols`.

A protocol says which classes, folds and clips of a data set are used, and how long its recipe trains. Beside
it stand the figures that the paper reports for HiCMAE-B with picture and sound, and where the data come from.
`--markdown` prints the table of docs/finetuning.md.
"""

from typing import NamedTuple

from absl import flags

from data_pipeline.corpora.protocols import OFFICIAL, PROTOCOLS, TASK, Protocol
from launch import command

FLAGS = flags.FLAGS
NONE = "–"


class Row(NamedTuple):
    """What is listed of a protocol, in words; the fields are the columns of the table.

    Attributes:
        protocol: its name.
        dataset: name of the data set.
        outputs: its classes or dimensions.
        folds: how many there are, and who decides them.
        clips: how many there are in all folds.
        recipe: length, batch and stride.
        published: figures of the paper in %, the one that it reports first at the beginning.
        reference: where the data come from, and on which terms.
    """

    protocol: str
    dataset: str
    outputs: str
    folds: str
    clips: str
    recipe: str
    published: str
    reference: str


HEADS = Row(
    "protocol", "data set", "classes", "folds", "clips", "epochs, batch, stride", "paper, HiCMAE-B", "from"
)


def define_flags() -> None:
    """Declare the flags."""
    flags.DEFINE_bool("markdown", False, "Print a Markdown table.")


def row(protocol: Protocol) -> Row:
    """What is listed of a protocol."""
    first = {name: protocol.published[name] for name in [protocol.metric] if name in protocol.published}
    published = ", ".join(f"{name} {value:.2f}" for name, value in {**first, **protocol.published}.items())
    averaged = ", scores averaged over a task's clips" if protocol.averaged_over == TASK else ""
    return Row(
        protocol.name,
        protocol.dataset,
        _outputs(protocol),
        _folds(protocol),
        (f"{protocol.clips:,}" if protocol.clips else "any number") + averaged,
        f"{protocol.epochs}, {protocol.batch}, {protocol.stride}",
        published or NONE,
        protocol.reference,
    )


def listing() -> str:
    """A paragraph for each protocol: its name, then a line for each other column."""
    width = max(map(len, HEADS))
    lines = []
    for found in map(row, PROTOCOLS.values()):
        lines.append(found.protocol)
        lines += [f"    {head:{width}}  {value}" for head, value in zip(HEADS[1:], found[1:], strict=True)]
    return "\n".join(lines)


def markdown() -> str:
    """The table of docs/finetuning.md."""
    rows = [f"| `{found.protocol}` | {' | '.join(found[1:])} |" for found in map(row, PROTOCOLS.values())]
    return "\n".join([f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|", *rows])


def _outputs(protocol: Protocol) -> str:
    names = " ".join(protocol.outputs)
    if protocol.regression:
        return f"{protocol.n_outputs} dimensions: {names}"
    merged = "".join(f"; {label} counts as {name}" for label, name in protocol.merged.items())
    return f"{protocol.n_outputs}: {names}{merged}" if names else f"{protocol.n_outputs}, named by the data"


def _folds(protocol: Protocol) -> str:
    decided = "by lists" if protocol.fold_by == OFFICIAL else f"by {protocol.fold_by}"
    numbers = " and ".join(map(str, protocol.tested_folds))
    only = "" if len(protocol.tested_folds) == protocol.folds else f", only fold {numbers} is tested"
    held_out = ", all tested on one held-out part" if protocol.held_out_test else ""
    return f"{protocol.folds} {decided}{only}{held_out}"


def main(argv: list[str]) -> int:
    """Print the list."""
    print(markdown() if FLAGS.markdown else listing())
    return 0


if __name__ == "__main__":
    command.run("protocols", define_flags, main)
