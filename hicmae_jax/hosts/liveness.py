"""The hosts of a run watch over each other: none is gone unnoticed, and why one ends is said on all.

JAX's runtime notices too, but after minutes, and then aborts with pages that name nobody. So every process
keeps a TCP connection to the first one (see `rendezvous`): a process that ends, however it ends, has its
connections closed by its kernel, and a machine that vanishes no longer answers TCP's probes.

A message is a line of JSON: ``{"ends": true}`` before a process ends as it should, before it ends otherwise
``{"failed": why, "code": exit code}``. The first process passes that on, with the number of the host.
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
"""Seconds of silence, seconds between probes, probes: a machine that vanishes is noticed in 35 s."""
SECONDS_TO_LEAVE = 5
"""How long the first host stays for the others to hear why one has failed."""
SECONDS_TO_END = 60
"""How long it stays for the others to end as all do."""
LONGEST_LINE = 65536
GONE = 75
"""Exit code of those that are left when a host is gone: the same command goes on."""


class Connection:
    """A socket of lines of JSON.

    Attributes:
        host: number of the process at the other end, None until it is known.
        of: of how many.
        name: of its machine.
        ends: whether it has said that it ends as it should.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.host: int | None = None
        self.of: int | None = None
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
        """Send a message; to one who is gone, nothing."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """Wait for some of what was sent; the messages that are complete, None at the end of all.

        Raises:
            ValueError: something else than a message.
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
    """The connections of this process to the others: of the first to all, of the others to the first.

    Made by `rendezvous.gather` or `rendezvous.join`. From then on a thread watches over them.

    Args:
        connections: to the others.
        first: whether this is the first process, which passes on what it hears.
        ended: called in the thread when another host is gone or has failed, with a line that says so and an
            exit code, after the others have been told.
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
        self._thread = threading.Thread(target=self._watch, name="presence", daemon=True)
        self._thread.start()

    def fail(self, why: str, code: int = 1, patience: float = 0.0) -> None:
        """Tell the others why this process ends; waits until they have ended.

        Where another host was the first to fail it does not come back: the thread has the last word.

        Args:
            why: one line.
            code: to exit with.
            patience: seconds to wait for news of a host that has failed before.
        """
        self._thread.join(patience)
        if not self._ending.acquire(blocking=False):
            self._thread.join()
            return
        self._tell(f"host 0: {why}" if self._first else why, code)
        self.wait()

    def end(self) -> None:
        """Tell the others that this process ends as all of them do."""
        for connection in self._connections:
            connection.send(ends=True)

    def wait(self) -> None:
        """The coordinator is the last to leave: when it does, JAX aborts whoever is left."""
        if self._first:
            self._thread.join(SECONDS_TO_END)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for connection in self._connections:
                selector.register(connection, selectors.EVENT_READ)
            while selector.get_map() and time.monotonic() < self._leave_at:
                for key, _ in selector.select(timeout=1):
                    if not self._hear(key.fileobj):
                        selector.unregister(key.fileobj)
        if self._last:
            self._ended(*self._last)  # before the connections close, for then the first process may leave
        for connection in self._connections:
            connection.socket.close()

    def _hear(self, connection: Connection) -> bool:
        """Read from a connection; false at its end."""
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
