"""Starting the processes of one run, each with its own devices, as if on several hosts."""

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import HANG
from tests.support.xla_flags import xla_flags

# Below those that Linux gives to outgoing connections: none of them can take one before we use it.
PORTS = range(20_000, 32_000)


def free_port(ports: range = PORTS) -> int:
    """A random one of these ports, at which no process listens."""
    for port in random.sample(ports, 100):
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port
    raise OSError(f"no port of {ports} is free")


def environment(compiled: Path, devices: int, **variables: str) -> dict[str, str]:
    """Variables of a process with so many devices, which keeps what it compiles in `compiled`."""
    mine = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags(devices),
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
    }
    return os.environ | mine | variables


def start(
    arguments: Sequence[str],
    given: dict[str, str],
    directory: Path | None = None,
    program: str = "launch.pretrain",
) -> subprocess.Popen:
    """Start a process of a run, with these variables and in this directory."""
    command = [sys.executable, "-m", program, *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=given,
        cwd=directory,
        start_new_session=True,
    )


def start_hosts(
    arguments: Sequence[Sequence[str]],
    compiled: Path,
    devices: int,
    program: str = "launch.pretrain",
    **variables: str,
) -> list[subprocess.Popen]:
    """Start a run with one process for each command line; the first one is the coordinator."""
    port, count = free_port(), len(arguments)
    flags = [f"--coordinator=localhost:{port}", f"--processes={count}"]
    given = environment(compiled, devices, **variables)
    words = [[*own, *flags, f"--process={i}"] for i, own in enumerate(arguments)]
    return [start(own, given, program=program) for own in words]


def finish(processes: Sequence[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Wait for all to end; (exit code, stdout, stderr) of each. Kills those that hang."""
    try:
        ended = [process.communicate(timeout=HANG) for process in processes]
        return [(process.returncode, *texts) for process, texts in zip(processes, ended, strict=True)]
    finally:
        for process in processes:
            process.kill()
