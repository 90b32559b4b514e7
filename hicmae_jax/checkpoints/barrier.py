"""The meetings of the threads of all hosts during a save: they end everywhere once one host has failed.

With JAX's own barrier, a host that has written its part would wait for the timeout, by default 20 minutes, if
another host could not write. Nor could it end earlier, because Python waits for these threads.
"""

import itertools
import sys
import threading
from typing import Any

import jax
from jax._src import distributed

# Interval at which a waiting thread looks whether it is to give up.
SECONDS_BETWEEN_LOOKS = 0.5
_SAVES = itertools.count()
_DONE, _FAILED = "done", "failed"


class OtherHostFailedError(RuntimeError):
    """This host has done its part, but another host has not."""


class Barrier:
    """The `barrier_sync_fn` of Orbax's manager, which its last thread calls also when a save has failed.

    Attributes:
        failure: the error of this host in the current save, or that another host has failed; None so far.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._given_up = threading.Event()
        self.begin()

    def begin(self) -> None:
        """Begin a save; every process must begin the same saves."""
        self.failure = None
        self._save, self._meetings = next(_SAVES), itertools.count()

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Wait for the threads of all hosts; there is no timeout, because hosts differ in speed.

        Args:
            key: not used, because the meetings are numbered.
            timeout_ms: not used.

        Raises:
            OtherHostFailedError: another host has failed, or `give_up` was called.
        """
        self.failure = self.failure or sys.exception()
        client = distributed.global_state.client
        if client is None:  # there is one host
            return
        meeting = f"checkpoints/{self._save}/{next(self._meetings)}"
        client.key_value_set(f"{meeting}/{jax.process_index()}", _FAILED if self.failure else _DONE)
        if self.failure:
            return
        for host in range(jax.process_count()):
            if self._read(client, f"{meeting}/{host}") != _DONE:
                self.failure = OtherHostFailedError(f"host {host} has not written its part")
                raise self.failure

    def give_up(self) -> None:
        """Stop waiting for other hosts, because one of them will not come."""
        self._given_up.set()

    def _read(self, client: Any, name: str) -> str | None:
        """The word that a host has left under this name; None after `give_up`."""
        while not self._given_up.is_set():
            try:
                return client.blocking_key_value_get(name, int(SECONDS_BETWEEN_LOOKS * 1000))
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
        return None
