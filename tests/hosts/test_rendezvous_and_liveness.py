"""Hosts connect and watch each other; here each host is a thread with real connections."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hicmae_jax.hosts import liveness, rendezvous
from tests.support.processes import HANG, wait_until
from tests.support.several_hosts import free_port

NAME = socket.gethostname()


class Hosts:
    """Threads that act as hosts; `last` maps the number of a host to the last message that it got."""

    def __init__(self):
        self.port = free_port()
        self.last, self.codes = {}, {}
        self.pool = ThreadPoolExecutor(8)
        self.members = []

    def come(self, host, count, seconds=float(HANG)):
        return self.pool.submit(self._come, host, count, seconds)

    def _come(self, host, count, seconds):
        def ended(line, code):
            self.last[host], self.codes[host] = line, code

        if host == 0:
            member = rendezvous.gather(self.port, count, seconds, ended)
        else:
            member = rendezvous.join(f"localhost:{self.port}", host, count, seconds, ended)
        self.members.append(member)
        return member

    def all_come(self, count):
        return [future.result() for future in [self.come(host, count) for host in range(count)]]

    def wait_for_last(self, count):
        wait_until(lambda: len(self.last) >= count)
        return self.last


@pytest.fixture
def hosts():
    made = Hosts()
    yield made
    for member in made.members:
        vanish(member)
        member._thread.join(HANG)
    made.pool.shutdown()


def refused(*futures):
    lines = []
    for future in futures:
        with pytest.raises(ValueError, match=r"host 0|host \d|hosts|two are") as error:
            future.result()
        lines.append(str(error.value))
    assert all(len(line.splitlines()) == 1 for line in lines)
    return lines


def dial(port):
    """Connect to the first host as soon as it listens."""
    made = []

    def connects():
        with contextlib.suppress(ConnectionError):
            made.append(socket.create_connection(("localhost", port)))
        return made

    wait_until(connects)
    return made[0]


def vanish(member):
    """Close a host's connections, as if its process were killed."""
    member._ending.acquire(blocking=False)  # so it says nothing
    for connection in member._connections:
        with contextlib.suppress(OSError):  # it has closed them itself
            connection.socket.shutdown(socket.SHUT_RDWR)


# --- Coming together ----------------------------------------------------------------------------------------


def test_missing_hosts_are_named_on_all_present_hosts(hosts):
    lines = refused(hosts.come(2, 4), hosts.come(0, 4, seconds=3))
    message = f"hosts 1 and 3 of 4 have not come within 3 s (here are 0 on {NAME}, 2 on {NAME}): see"
    assert all(line.startswith(message) for line in lines)


def test_a_first_host_that_does_not_answer_is_named(hosts):
    (line,) = refused(hosts.come(1, 2, seconds=0.2))
    assert line.startswith(f"host 0 at localhost:{hosts.port} has not answered within 0.2 s (")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([(0, 3), (1, 3), (1, 3)], f"two are host 1, on {NAME} and on {NAME}: number them from 0 to 2"),
        ([(0, 3), (1, 3), (2, 4)], f"host 2 ({NAME}) was told of 4 hosts, host 0 of 3: give all the same"),
        ([(0, 3), (1, 3), (3, 3)], f"host 3 ({NAME}) is not one of 3: number them from 0 to 2"),
    ],
    ids=["the same number", "another count", "no such number"],
)
def test_hosts_with_contradictory_flags_are_named_on_all_hosts(hosts, numbers, message):
    assert all(line.startswith(message) for line in refused(*[hosts.come(*pair) for pair in numbers]))


def test_a_host_that_comes_late_gets_the_refusal_too(hosts, monkeypatch):
    monkeypatch.setattr(rendezvous, "SECONDS_FOR_OTHERS", HANG)
    early = [hosts.come(0, 3), hosts.come(1, 4)]
    time.sleep(1)
    assert len(set(refused(*early, hosts.come(2, 3)))) == 1


def test_a_port_in_use_is_named(hosts):
    message = f"cannot listen at port {hosts.port} of this host"
    with socket.create_server(("", hosts.port)), pytest.raises(OSError, match=message) as error:
        hosts.come(0, 2).result()
    assert len(str(error.value).splitlines()) == 1


def test_hosts_may_come_in_any_order_and_strangers_are_ignored(hosts):
    early, first = hosts.come(2, 3), hosts.come(0, 3)
    with dial(hosts.port) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stranger.recv(1)  # it is hung up on
    for future in (first, early, hosts.come(1, 3)):
        future.result().end()
    assert hosts.last == {}


def test_a_host_may_be_started_again_while_the_others_wait(hosts):
    first = hosts.come(0, 3)
    gone = dial(hosts.port)
    gone.sendall(b'{"host": 1, "of": 3, "name": "old"}\n')
    time.sleep(0.2)
    gone.close()
    for future in (first, hosts.come(1, 3), hosts.come(2, 3)):
        future.result().end()


def test_the_port_is_free_again_for_jax(hosts):
    members = hosts.all_come(2)
    socket.create_server(("", hosts.port)).close()
    for member in members:
        member.end()


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":80", "localhost:http", "localhost:70000"])
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(ValueError, match=f"'{address}' is not HOST:PORT"):
        rendezvous.split_address(address)


def test_an_address_may_be_ipv4_or_ipv6():
    assert rendezvous.split_address("node1:80") == ("node1", 80)
    assert rendezvous.split_address("[fe80::1]:80") == ("fe80::1", 80)


# --- Watching over each other -------------------------------------------------------------------------------


def test_a_host_that_is_gone_is_named_on_all_others(hosts):
    members = hosts.all_come(3)
    vanish(members[1])
    last = hosts.wait_for_last(2)
    assert last[0] == last[2]
    assert last[0].startswith(f"host 1 ({NAME}) is gone: its process was killed, or its machine or network")
    assert hosts.codes == {0: 75, 2: 75}


def test_a_first_host_that_is_gone_is_named_on_all_others(hosts):
    members = hosts.all_come(3)
    vanish(members[0])
    last = hosts.wait_for_last(2)
    assert last[1] == last[2]
    assert last[1].startswith(f"host 0 (localhost:{hosts.port}) is gone: its process was killed")


@pytest.mark.parametrize("failing", [0, 1])
def test_the_error_of_a_host_is_reported_on_all_others(hosts, failing):
    members = hosts.all_come(3)
    failed = hosts.pool.submit(members[failing].fail, "no clip can be read")
    if failing:
        failed.result()
        vanish(members[failing])
    hosts.wait_for_last(2)
    assert hosts.last == {
        host: f"host {failing}: no clip can be read" for host in range(3) if host != failing
    }


def test_the_first_host_waits_until_the_others_have_read_its_error(hosts, monkeypatch):
    members = hosts.all_come(2)
    monkeypatch.setattr(liveness, "SECONDS_TO_LEAVE", 2 * HANG)
    heard = threading.Event()
    members[1]._ended = lambda *_: heard.wait(HANG)
    leaving = hosts.pool.submit(members[0].fail, "enough")
    time.sleep(0.2)
    assert not leaving.done()
    heard.set()
    leaving.result(timeout=HANG)


def test_the_first_of_two_failures_is_reported(hosts):
    """If a collective fails because another host has failed, the other host's failure is reported."""
    members = hosts.all_come(3)
    vanish(members[1])
    members[2].fail("Gloo AllGather failed", patience=HANG)
    assert hosts.last[2].startswith(f"host 1 ({NAME}) is gone")


def test_a_normal_end_of_all_hosts_raises_no_alarm(hosts):
    members = hosts.all_come(3)
    for member in members:
        member.end()
    for member in members:
        vanish(member)
        member._thread.join(HANG)
    assert hosts.last == {}
