"""Watches the connections between the hosts of a run: a host that ends or vanishes is noticed on all others.

JAX's runtime notices too, but after minutes, and then aborts without naming a host. So every process keeps a
TCP connection to the first one (see `rendezvous`). When a process ends, its kernel closes the connection; a
machine that vanishes no longer answers TCP's keep-alive probes.

A message is a line of JSON: ``{"ends": true}`` before a process ends normally, or ``{"failed": why, "code":
exit code}`` before it ends otherwise. The first process passes failures on, with the number of the host.
"""

import contextlib
import json
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

PROBE_AFTER, PROBE_EVERY, PROBES = 15, 5, 4
"""Seconds of silence before the first probe, seconds between probes, number of probes: 35 s in all."""
SECONDS_TO_LEAVE = 5
"""Seconds for which the first host waits for the others to read why a host has failed."""
SECONDS_TO_END = 60
"""Seconds for which the first host, at the normal end of a run, waits for the others to end too."""
LONGEST_LINE = 65536
GONE = 75
"""Exit code of the other hosts when one is gone: the same command resumes the run."""


class Connection:
    """A socket that carries lines of JSON.

    Attributes:
        host: number of the process at the other end; -1 until it is known.
        count: number of all processes, by the flags of that process; -1 until it is known.
        name: name of its machine.
        ends: whether it has announced a normal end.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.host = -1
        self.count = -1
        self.name = ""
        self.ends = False
        self.socket = connected
        self._received = b""
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, PROBE_AFTER),
            (socket.TCP_KEEPINTVL, PROBE_EVERY),
            (socket.TCP_KEEPCNT, PROBES),
            (socket.TCP_NODELAY, 1),
        ):
            connected.setsockopt(socket.IPPROTO_TCP, option, value)

    def fileno(self) -> int:
        """For `selectors`."""
        return self.socket.fileno()

    def send(self, **message: Any) -> None:
        """Send a message; do nothing if the other process is gone."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """Wait for data.

        Returns:
            The messages that are complete; None if the connection has ended.

        Raises:
            ValueError: the data are no messages.
        """
        try:
            new = self.socket.recv(LONGEST_LINE)
        except TimeoutError:
            return []
        except OSError:
            return None
        if not new:
            return None
        *lines, self._received = (self._received + new).split(b"\n")
        messages = [json.loads(line) for line in lines]
        if len(self._received) > LONGEST_LINE or not all(isinstance(message, dict) for message in messages):
            raise ValueError("not a message")
        return messages


class LivenessMonitor:
    """Watches connections in a thread: the first process watches all others, and they watch the first.

    `rendezvous.gather` and `rendezvous.join` make it.

    Args:
        connections: connections to the other processes.
        first: whether this is the first process, which passes failures on.
        ended: called in the thread if another host is gone or has failed, with a line that names it and an
            exit code, after the other hosts have been told.
    """

    def __init__(
        self, connections: Sequence[Connection], first: bool, ended: Callable[[str, int], None]
    ) -> None:
        self._connections = connections
        self._first = first
        self._ended = ended
        self._ending = threading.Lock()
        self._last: tuple[str, int] | None = None
        self._leave_at = math.inf
        self._thread = threading.Thread(target=self._watch, name="liveness", daemon=True)
        self._thread.start()

    def fail(self, why: str, code: int = 1, patience: float = 0.0) -> None:
        """Tell the others why this process ends, and wait until they have ended.

        If another host has failed before, this does not return: the thread ends the process.

        Args:
            why: one line.
            code: exit code of the others.
            patience: seconds to wait for news of an earlier failure.
        """
        self._thread.join(patience)
        if not self._ending.acquire(blocking=False):
            self._thread.join()
            return
        self._tell(f"host 0: {why}" if self._first else why, code)
        self.wait()

    def end(self) -> None:
        """Tell the others that this process ends normally."""
        for connection in self._connections:
            connection.send(ends=True)

    def wait(self) -> None:
        """Let the first process end last: when it ends, JAX aborts the processes that are left."""
        if self._first:
            self._thread.join(SECONDS_TO_END)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for connection in self._connections:
                selector.register(connection, selectors.EVENT_READ, connection)
            while selector.get_map() and time.monotonic() < self._leave_at:
                for key, _ in selector.select(timeout=1):
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
        if self._last:
            self._ended(*self._last)  # before closing, because then the first process may end
        for connection in self._connections:
            connection.socket.close()

    def _read(self, connection: Connection) -> bool:
        """Read from a connection; return false at its end."""
        messages = connection.receive()
        for message in messages or ():
            connection.ends |= "ends" in message
            if "failed" in message:
                why = message["failed"]
                self._end(f"host {connection.host}: {why}" if self._first else why, message["code"])
        if messages is None and not connection.ends:
            self._end(
                f"host {connection.host} ({connection.name}) is gone: its process was killed, or its machine "
                "or network failed; run the same command again on all hosts to go on",
                GONE,
            )
        return messages is not None

    def _end(self, line: str, code: int) -> None:
        if self._ending.acquire(blocking=False):
            self._last = (line, code)
            self._tell(line, code)
            self._leave_at = time.monotonic() + (SECONDS_TO_LEAVE if self._first else 0)

    def _tell(self, line: str, code: int) -> None:
        for connection in self._connections:
            connection.send(failed=line, code=code)
