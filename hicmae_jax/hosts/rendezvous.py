"""Connects the processes of a run before JAX does; if one is missing, every process names it.

JAX's own way to meet aborts the process when a host does not come, and names nobody. So the other processes
first call the first one, at the address where JAX will listen later, with a line of JSON: ``host``, ``of``
(the number of processes) and ``name``. The first one answers all of them at once: ``{"begin": true}`` or
``{"refused": why}``. The connections stay open for `liveness`.
"""

import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from hicmae_jax.hosts.agreement import name_hosts
from hicmae_jax.hosts.liveness import Connection, LivenessMonitor

SECONDS_TO_REPLY = 10
"""Extra seconds, after its own time is over, for which a host waits for the first host's answer."""
SECONDS_FOR_OTHERS = 5
"""Seconds for which the first process, after a mistake, waits for more processes, to tell them too."""


def gather(port: int, count: int, seconds: float, ended: Callable[[str, int], None]) -> LivenessMonitor:
    """Wait for the others, as the first process.

    Args:
        port: port to listen at, on all addresses of this machine; free again on return.
        count: number of all processes.
        seconds: seconds to wait.
        ended: for `LivenessMonitor`.

    Raises:
        ValueError: hosts are missing, or do not agree on how many there are or who is who.
        OSError: the port is in use.
    """
    present: list[Connection] = []
    refusal = ""
    with _listen(port) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        end = time.monotonic() + seconds
        while len(present) < count - 1 and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(timeout=left):
                if key.fileobj is listener:
                    caller = Connection(listener.accept()[0])
                    selector.register(caller, selectors.EVENT_READ, caller)
                elif not _read(key.data, present):
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
            if not refusal and (refusal := _conflict(present, count)):
                end = min(end, time.monotonic() + SECONDS_FOR_OTHERS)
        for key in selector.get_map().values():
            if key.data is not None and key.data not in present:
                key.data.socket.close()
    if not refusal and len(present) < count - 1:
        refusal = _missing(present, count, seconds)
    for connection in present:
        connection.send(**{"refused": refusal} if refusal else {"begin": True})
        if refusal:
            connection.socket.close()
    if refusal:
        raise ValueError(refusal)
    return LivenessMonitor(present, True, ended)


def join(
    address: str, host: int, count: int, seconds: float, ended: Callable[[str, int], None]
) -> LivenessMonitor:
    """Call the first process, and wait with it for the others.

    Args:
        address: HOST:PORT of the first process.
        host: number of this process.
        count: number of all processes.
        seconds: seconds to wait for the connection to the first process, and again for its answer.
        ended: for `LivenessMonitor`.

    Raises:
        ValueError: the first process cannot be reached, or has refused.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            connection, answer = _ask(address, host, count, seconds)
            break
        # It may not have started yet.
        except (OSError, ValueError) as error:
            if time.monotonic() > end:
                raise ValueError(
                    f"host 0 at {address} has not answered within {seconds:g} s ({error}): see its output, "
                    "and check the address and that the port is open to this host"
                ) from error
        time.sleep(0.5)
    if "refused" in answer:
        connection.socket.close()
        raise ValueError(answer["refused"])
    return LivenessMonitor([connection], False, ended)


def _ask(address: str, host: int, count: int, seconds: float) -> tuple[Connection, dict[str, Any]]:
    """Call the first process; returns the connection and its answer.

    Raises:
        OSError: it cannot be reached, or is gone.
        ValueError: another program has answered.
    """
    name, port = split_address(address)
    connection = Connection(socket.create_connection((name, port), timeout=5))
    connection.host, connection.name = 0, address
    try:
        connection.send(host=host, of=count, name=socket.gethostname())
        connection.socket.settimeout(seconds + SECONDS_TO_REPLY)
        answers = connection.receive()
        if not answers:
            raise ConnectionError("the connection was closed")
        connection.socket.settimeout(None)
    except BaseException:
        connection.socket.close()
        raise
    return connection, answers[0]


def split_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`.

    Raises:
        ValueError: the text has another form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _listen(port: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, backlog=4096, dualstack_ipv6=dual)
    except OSError as error:
        why = os.strerror(error.errno or 0)  # Python adds the address to `strerror`
        raise OSError(
            f"cannot listen at port {port} of this host ({why}): end what uses it, perhaps an earlier run, "
            "or give another --coordinator on all hosts"
        ) from error


def _read(caller: Connection, present: list[Connection]) -> bool:
    """Read a caller's message; return false if it is gone or not a host of a run."""
    try:
        messages = caller.receive()
        for message in messages or ():
            caller.host, caller.count = int(message["host"]), int(message["of"])
            caller.name = str(message["name"])
            present.append(caller)
    except (ValueError, KeyError, TypeError):
        messages = None  # another program that scans ports
    if messages is None and caller in present:
        present.remove(caller)
    return messages is not None


def _conflict(present: Sequence[Connection], count: int) -> str:
    """One line about the values on which the hosts disagree; empty if they agree."""
    here = {0: socket.gethostname()}
    for caller in present:
        who = f"host {caller.host} ({caller.name})"
        if caller.count != count:
            return f"{who} was told of {caller.count} hosts, host 0 of {count}: give all the same number"
        if not 0 <= caller.host < count:
            return f"{who} is not one of {count}: number them from 0 to {count - 1}"
        if caller.host in here:
            on = f"on {here[caller.host]} and on {caller.name}"
            return f"two are host {caller.host}, {on}: number them from 0 to {count - 1}"
        here[caller.host] = caller.name
    return ""


def _missing(present: Sequence[Connection], count: int, seconds: float) -> str:
    here = {connection.host: connection.name for connection in present} | {0: socket.gethostname()}
    missing = [host for host in range(count) if host not in here]
    listed = ", ".join(f"{host} on {here[host]}" for host in sorted(here))
    verb = "has" if len(missing) == 1 else "have"
    return (
        f"{name_hosts(missing)} of {count} {verb} not come within {seconds:g} s (here are {listed}): "
        "see their output, start them, and run the same command again on all hosts"
    )
