"""Joining the processes of one run on several hosts, and ending them together."""

import os
import sys
import traceback
from typing import NoReturn

import jax
from absl import flags

# Not public, and the only way to learn what JAX will find before it connects, which it must not do yet.
from jax._src.clusters import ClusterEnv
from tqdm import tqdm

from hicmae_jax.hosts import final_message, rendezvous
from hicmae_jax.hosts.liveness import Presence

FLAGS = flags.FLAGS

SECONDS_FOR_JAX = 7 * 24 * 3600
"""JAX would abort all hosts, with pages that name nobody, when one has been silent for 100 s. A process that
is gone is noticed without it, and one that hangs is for the watchdog."""
SECONDS_TO_HEAR = 2.0
"""How long a failure here waits for news of an earlier one elsewhere."""
SECONDS_TO_BE_MISSED = 45.0
"""The same where other hosts do not answer, until their machine is known to be gone."""
GLOO = "Gloo"
"""Who speaks with other hosts' CPUs, in the messages of errors."""

_presence: Presence | None = None


def define_flags() -> None:
    """Declares the flags; `connect` reads them."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "One of several processes on a TPU pod, or that Slurm or Open MPI started.",
    )
    flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process, where no cluster says it.")
    flags.DEFINE_integer("processes", None, "With --coordinator: how many there are.", lower_bound=1)
    flags.DEFINE_integer("process", None, "With --coordinator: which this is, from 0.", lower_bound=0)
    flags.DEFINE_integer("wait_for_hosts", 300, "Seconds for all processes to come.", lower_bound=1)


def connect() -> None:
    """Meet the other processes, if there are any; before anything asks for devices.

    From then on this process ends, with a line, when another one is gone or has failed.

    Raises:
        ValueError: flags that do not go together, no cluster and no coordinator, or hosts that do not come or
            do not fit each other.
        OSError: the coordinator's port is in use.
    """
    global _presence
    found = _find()
    if found is None:
        return
    address, count, number = found
    if count > 1:
        seconds = FLAGS.wait_for_hosts
        if number == 0:
            _presence = rendezvous.answer(rendezvous.split_address(address)[1], count, seconds, _end)
        else:
            _presence = rendezvous.call(address, number, count, seconds, _end)
            final_message.before_an_abort()  # by JAX, when the first process is gone
    jax.distributed.initialize(address, count, number, heartbeat_timeout_seconds=SECONDS_FOR_JAX)


def leave(code: int, why: str = "", error: BaseException | None = None, known: bool = False) -> NoReturn:
    """End this process, with a last line on stderr.

    At once: at exit JAX would wait for minutes for processes that do not come, and a signal would end this
    one with another code.

    Args:
        code: exit code.
        why: the line, empty for none.
        error: to show in full before it.
        known: whether the other processes end too, at the same step or for the same reason.
    """
    if _presence is not None:
        if known:
            _presence.end()
        else:
            # What fails here is often but the consequence of what has failed elsewhere.
            patience = SECONDS_TO_BE_MISSED if GLOO in str(error or why) else SECONDS_TO_HEAR
            _presence.fail(why, code, patience)
    if error is not None:
        traceback.print_exception(error)
    final_message.say(why and f"pretrain: {why}")
    if _presence is not None and known:
        _presence.wait()
    _exit(code)


def _find() -> tuple[str, int, int] | None:
    """The coordinator's address, how many processes there are and which this is; None for a single one."""
    by_hand = (FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    if by_hand == (None, None, None):
        return _find_cluster() if FLAGS.distributed else None
    if None in by_hand:
        raise ValueError("--coordinator, --processes and --process go together: give all three or none")
    if FLAGS.process >= FLAGS.processes:
        raise ValueError(f"--process={FLAGS.process} is not below --processes={FLAGS.processes}")
    try:
        rendezvous.split_address(FLAGS.coordinator)
    except ValueError as error:
        raise ValueError(f"--coordinator={error}") from None
    return by_hand


def _find_cluster() -> tuple[str, int, int]:
    address, count, number, _ = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, FLAGS.wait_for_hosts
    )
    if None in (address, count, number):
        raise ValueError(
            "--distributed finds no TPU pod, Slurm or Open MPI: give --coordinator, --processes and --process"
        )
    return address, count, number


def _end(why: str, code: int) -> None:
    """End the process from another thread: the main one may wait for ever for a host that is gone."""
    try:
        with tqdm.external_write_mode(sys.stderr):  # without a progress bar
            final_message.say(f"pretrain: {why}")
            _exit(code)  # in here: at its end the bar would be drawn again
    finally:  # also where nobody reads what is said any more
        _exit(code)


def _exit(code: int) -> NoReturn:
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code)
