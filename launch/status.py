"""Show what a run is doing and has done: state, step, loss, pace, checkpoints, hosts, goodput, events.

    python -m launch.status --run=runs/b

`--run` is the directory of a run or of the folds of one, on a disk or in a bucket. The command only reads, so
it may be given anywhere and at any time. `docs/operations.md` explains what it prints.
"""

import time

from absl import flags
from etils import epath

from hicmae_jax.runs import status, status_text
from launch import command

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("run", None, "Directory of the run, or of its folds.", required=True)
    flags.DEFINE_bool("json", False, "Print JSON, a list with an object for each run.")
    flags.DEFINE_float("watch", None, "Print again every so many seconds, until Ctrl-C.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    directory = epath.Path(FLAGS.run)
    print(_shown(directory), flush=True)
    while FLAGS.watch is not None:
        time.sleep(FLAGS.watch)
        print(f"\n{time.strftime('%H:%M:%S')}\n{_shown(directory)}", flush=True)
    return 0


def _shown(directory: epath.Path) -> str:
    runs = status.find_runs(directory)
    found = [status.read(run) for run in runs]
    if FLAGS.json:
        return status_text.as_json(found)
    return status_text.text(found[0]) if runs == [directory] else status_text.folds_text(found)


if __name__ == "__main__":
    command.run("status", define_flags, main)
