"""The command `hicmae`: `hicmae pretrain …` runs `python -m launch.pretrain …`.

`hicmae` lists the commands, and `hicmae COMMAND --help` lists the flags of a command.
"""

import importlib.metadata
import runpy
import sys
from collections.abc import Sequence

from hicmae_jax.settings import schema
from hicmae_jax.supervision import standard_streams

COMMANDS = {
    "make_corpus": ("launch.make_corpus", "make a corpus of talking faces, to try the commands on"),
    "protocols": ("launch.protocols", "list the emotion data sets: classes, folds, figures of the paper"),
    "prepare": ("launch.prepare", "make shards of raw clips, or of a labelled data set"),
    "inspect": ("launch.inspect_data", "show, verify or draw what prepared shards hold"),
    "pretrain": ("launch.pretrain", "pre-train a model, or resume a run"),
    "sweep": ("launch.sweep", "train many runs: a grid, a table, or several lengths of each"),
    "report": ("launch.report", "write a report of a study or of runs: costs, scores, laws"),
    "status": ("launch.status", "show what a run is doing: step, pace, checkpoints, hosts, goodput"),
    "evaluate": ("launch.evaluate", "score a run on held-out clips"),
    "import": ("launch.import_weights", "make a run of published or other PyTorch weights"),
    "embed": ("launch.embed", "compute features or emotions of videos"),
    "export": ("launch.export", "write a run's weights for PyTorch"),
    "finetune": ("launch.finetune", "fine-tune a model on labelled clips and score it, fold by fold"),
    "score": ("launch.score", "score a fine-tuned model on another data set, or without one modality"),
    "settings": ("launch.settings", "list every setting with its type, default, limits and meaning"),
    "sizes": ("launch.sizes", "print parameters, FLOPs and memory of every model size"),
    "template": ("launch.template", "print a script that starts a run on a cluster, with its blanks filled"),
    "aot": ("launch.aot", "compile the training step for TPUs that this machine does not have"),
    "demo": ("launch.demo", "run the steps of pre-training once, in ten minutes on two CPU cores"),
}
"""Name of each command → its module and its purpose, in the order in which a user needs them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command. The process ends with the exit code of the command.

    Args:
        argv: the program's name, the command's name and its flags; by default those of this process.
    """
    standard_streams.make_tolerant()
    _, *words = sys.argv if argv is None else argv
    if not words or words[0] in ("-h", "-help", "--help", "help"):
        print(overview())
        _end()
        return
    if words[0] == "--version":
        print(importlib.metadata.version("hicmae_jax"))
        _end()
        return
    name = words[0].replace("-", "_")
    if name not in COMMANDS:
        print(
            f"hicmae: there is no command {words[0]}; the nearest is {schema.nearest(name, COMMANDS)}; "
            "`hicmae --help` lists all",
            file=sys.stderr,
        )
        sys.exit(1)
    # Run the module as `__main__`, so flags, messages and worker processes are the same as with `python -m`.
    sys.argv = words
    runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)


def _end() -> None:
    if code := standard_streams.end("hicmae", 0):
        sys.exit(code)


def overview() -> str:
    """The list of commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hicmae COMMAND [FLAGS]",
            "",
            *lines,
            "",
            "`hicmae COMMAND --help` lists the flags of a command.",
        ]
    )


if __name__ == "__main__":
    main()
