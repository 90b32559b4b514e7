"""Flags of every training command that say how its processes find each other."""

from absl import flags

from hicmae_jax.hosts import connect as hosts
from hicmae_jax.hosts import rendezvous

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; `connect` reads them."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "This is one of several processes that a TPU pod, Slurm, Open MPI or Kubernetes has started.",
    )
    flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process, where no cluster names it.")
    flags.DEFINE_integer(
        "processes", None, "With --coordinator: how many processes there are.", lower_bound=1
    )
    flags.DEFINE_integer("process", None, "With --coordinator: which process this is, from 0.", lower_bound=0)
    flags.DEFINE_integer("wait_for_hosts", 300, "Seconds to wait for all processes.", lower_bound=1)


def connect(program: str) -> None:
    """Connect to the other processes, if the flags say that there are any.

    Args:
        program: name of the command, which its messages begin with.

    Raises:
        ValueError: the flags contradict each other; or there is neither a cluster nor a coordinator; or a
            process is missing or has other flags.
        ImportError: in a pod of Kubernetes, a package is missing.
        OSError: the coordinator's port is in use.
    """
    place = find()
    if place is not None:
        hosts.connect(*place, FLAGS.wait_for_hosts, program)


def find() -> tuple[str, int, int] | None:
    """Read the flags.

    Returns:
        HOST:PORT of the first process, how many processes there are, and which of them this is; None for
        a run of one process.

    Raises:
        ValueError: the flags contradict each other, or there is neither a cluster nor a coordinator.
        ImportError: in a pod of Kubernetes, a package is missing.
    """
    address, count, number = FLAGS.coordinator, FLAGS.processes, FLAGS.process
    if (address, count, number) == (None, None, None):
        return hosts.find_cluster(FLAGS.wait_for_hosts) if FLAGS.distributed else None
    if address is None or count is None or number is None:
        raise ValueError("--coordinator, --processes and --process go together: give all three or none")
    if number >= count:
        raise ValueError(f"--process={number} is not below --processes={count}")
    try:
        rendezvous.split_address(address)
    except ValueError as error:
        raise ValueError(f"--coordinator={error}") from None
    return address, count, number
