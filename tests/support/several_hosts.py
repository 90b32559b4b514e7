"""What tests of several hosts share: processes of one run, each with devices of its own."""

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def free_port(least: int = 0) -> int:
    """One that nobody listens at, of those from `least` on."""
    for port in random.sample(range(least, 65536), 100) if least else [0]:
        with contextlib.suppress(OSError), socket.create_server(("", port)) as server:
            return server.getsockname()[1]
    raise OSError(f"no port from {least} on is free")


def environment(compiled: Path, devices: int, **variables: str) -> dict[str, str]:
    """Of a process with so many devices that keeps what it compiles where others of its kind find it."""
    mine = {
        "JAX_PLATFORMS": "cpu",
        # Compiled as the tests' own processes do, for the same reason.
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
    }
    return os.environ | mine | variables


def start(arguments: Sequence[str], given: dict[str, str], directory: Path | None = None) -> subprocess.Popen:
    """Start a process of a run, with these variables and in this directory."""
    command = [sys.executable, "-m", "launch.pretrain", *arguments]
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
    arguments: Sequence[Sequence[str]], compiled: Path, devices: int, **variables: str
) -> list[subprocess.Popen]:
    """Start a run of as many processes as there are command lines, whose first one all meet at."""
    port, count = free_port(), len(arguments)
    flags = [f"--coordinator=localhost:{port}", f"--processes={count}"]
    given = environment(compiled, devices, **variables)
    return [start([*own, *flags, f"--process={i}"], given) for i, own in enumerate(arguments)]


def finish(processes: Sequence[subprocess.Popen], seconds: float = 300) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each, once all have ended; ends those that do not."""
    try:
        ended = [process.communicate(timeout=seconds) for process in processes]
        return [(process.returncode, *texts) for process, texts in zip(processes, ended, strict=True)]
    finally:
        for process in processes:
            process.kill()
