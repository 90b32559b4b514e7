"""Connects the processes of one run on several hosts, and ends this process so that the others learn why."""

import os
import sys
import traceback
from typing import NoReturn

import jax

# Not public. It is the only way to learn what JAX will find before JAX connects.
from jax._src.clusters import ClusterEnv
from tqdm import tqdm

from hicmae_jax.hosts import final_message, kubernetes_pods, rendezvous
from hicmae_jax.hosts.liveness import LivenessMonitor

JAX_HEARTBEAT_SECONDS = 7 * 24 * 3600
"""JAX would abort all hosts, without naming one, when a host has been silent for 100 s. The liveness monitor
notices a process that is gone, and the watchdog ends one that hangs, so JAX's own limit is set to a week."""
PATIENCE_SECONDS = 2.0
"""Seconds for which a failing process waits for news of an earlier failure on another host."""
PATIENCE_SECONDS_COLLECTIVE = 45.0
"""The same when a collective failed: longer than it takes to notice that a machine has vanished."""
GLOO = "Gloo"
"""Library of collectives between CPUs; its errors have this word."""

_monitor: LivenessMonitor | None = None


def connect(address: str, count: int, number: int, wait_seconds: float, program: str) -> None:
    """Connect to the other processes of the run; call it before any code asks JAX for devices.

    From then on this process ends, with one line on stderr, when another one is gone or has failed.

    Args:
        address: HOST:PORT of the first process.
        count: number of processes of the run.
        number: number of this process, from 0.
        wait_seconds: seconds to wait for all processes.
        program: name of the command, which its messages begin with.

    Raises:
        ValueError: a process is missing, or two disagree on how many there are or on their numbers.
        OSError: the port is in use.
    """
    global _monitor

    def end(why: str, code: int) -> None:
        _end(program, why, code)

    if count > 1:
        if number == 0:
            port = rendezvous.split_address(address)[1]
            _monitor = rendezvous.gather(port, count, wait_seconds, end)
        else:
            _monitor = rendezvous.join(address, number, count, wait_seconds, end)
    jax.distributed.initialize(
        address,
        count,
        number,
        # JAX would ask Kubernetes again, also where it does not answer; a pod has all GPUs that it sees.
        cluster_detection_method="deactivate" if kubernetes_pods.is_pod() else None,
        heartbeat_timeout_seconds=JAX_HEARTBEAT_SECONDS,
    )


def find_cluster(wait_seconds: int) -> tuple[str, int, int]:
    """Ask the TPU pod, Slurm, Open MPI or Kubernetes that started this process.

    Args:
        wait_seconds: seconds for which JAX may wait for the cluster's answer.

    Returns:
        HOST:PORT of the first process, how many processes there are, and which of them this is.

    Raises:
        ValueError: no such cluster has started this process, or it does not answer.
        ImportError: this is a pod of Kubernetes, and the package that asks it is missing.
    """
    if kubernetes_pods.is_pod():
        return kubernetes_pods.find()
    address, count, number, _ = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, wait_seconds
    )
    if address is None or count is None or number is None:
        raise ValueError(
            "--distributed finds no TPU pod, Slurm, Open MPI or Kubernetes: give --coordinator, --processes "
            "and --process"
        )
    return address, count, number


def leave(
    program: str, code: int, why: str = "", error: BaseException | None = None, known: bool = False
) -> NoReturn:
    """End this process at once, with a final line on stderr.

    Python's own exit would let JAX wait for minutes for processes that are gone.

    Args:
        program: name of the command, which the line begins with.
        code: exit code.
        why: the line; empty for none.
        error: an error whose traceback is printed before the line.
        known: whether the other processes end too, at the same step or for the same reason.
    """
    if _monitor is not None:
        if known:
            _monitor.end()
        else:
            # A failure here is often caused by an earlier failure on another host; report that one.
            collective = GLOO in str(error or why)
            _monitor.fail(why, code, PATIENCE_SECONDS_COLLECTIVE if collective else PATIENCE_SECONDS)
    if error is not None:
        traceback.print_exception(error)
    final_message.write(why and f"{program}: {why}")
    if _monitor is not None and known:
        _monitor.wait()
    _exit(code)


def _end(program: str, why: str, code: int) -> None:
    """End the process from the monitor's thread: the main thread may wait for a host that is gone."""
    try:
        with tqdm.external_write_mode(sys.stderr):  # clears the progress bar
            final_message.write(f"{program}: {why}")
            _exit(code)  # inside, because the bar would be drawn again at the end of the block
    finally:  # also when stderr is closed
        _exit(code)


def _exit(code: int) -> NoReturn:
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code)
