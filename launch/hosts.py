"""Joining the processes of one run on several hosts."""

import jax
from absl import flags

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the flags; `connect` reads them."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "One of several processes on a TPU pod, or that Slurm or Open MPI started.",
    )
    flags.DEFINE_string("coordinator", None, "Elsewhere: HOST:PORT of the first process.")
    flags.DEFINE_integer("processes", None, "Elsewhere: how many there are.", lower_bound=1)
    flags.DEFINE_integer("process", None, "Elsewhere: which of them this is, from 0.", lower_bound=0)


def connect() -> None:
    """Meet the other processes, if there are any; before anything asks for devices.

    Raises:
        ValueError: flags that do not go together, or no cluster and no coordinator.
        RuntimeError: the others have not come.
    """
    by_hand = (FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    if by_hand == (None, None, None) and not FLAGS.distributed:
        return
    if any(value is not None for value in by_hand):
        if None in by_hand:
            raise ValueError("--coordinator, --processes and --process go together: give all three or none")
        if FLAGS.process >= FLAGS.processes:
            raise ValueError(f"--process={FLAGS.process} is not below --processes={FLAGS.processes}")
        jax.distributed.initialize(*by_hand)
        return
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise ValueError(
            f"--distributed finds no cluster ({error}); give --coordinator, --processes and --process"
        ) from error
