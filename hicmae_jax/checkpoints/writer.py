"""Writes a state to disk in a thread while training goes on.

Every process writes its part of the arrays and then a mark. The first process waits for the marks of all and
completes the checkpoint. No collective operation is used: it would stall training, and it would never return
if a process has failed or ended.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from hicmae_jax.checkpoints.reader import STATE

MARKS = "written_by"
# How often the first process looks for the marks of the others.
SECONDS_BETWEEN_LOOKS = 0.1


class Writer:
    """Writes one state; every process makes one.

    Attributes:
        failure: what went wrong in this process, None so far.
    """

    def __init__(self, directory: epath.Path, state: Any, complete: Callable[[], None]) -> None:
        """Begin; returns when the state has been copied, so that it may then be donated.

        Args:
            directory: with the empty directories `state` and `written_by`, the same for all processes.
            state: tree of arrays.
            complete: what the first process does when all parts are written.
        """
        self.failure: Exception | None = None
        self._directory = directory
        self._complete = complete
        self._copied, self._written, self._given_up = (threading.Event() for _ in range(3))
        # A process that ends for another reason does not stay for a mark that may never come.
        self._thread = threading.Thread(target=self._run, args=(state,), name="checkpoint", daemon=True)
        self._thread.start()
        self._copied.wait()

    def wait_written(self) -> None:
        """Wait until this process has written its part, or failed to."""
        self._written.wait()

    def wait_complete(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do for this process.

        Args:
            timeout: in seconds; None for none.

        Returns:
            Whether nothing is left.
        """
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Wait for other processes' parts no longer: one of them will not come."""
        self._given_up.set()
        self._thread.join()

    def _run(self, state: Any) -> None:
        try:
            handler = ocp.StandardCheckpointHandler()
            try:
                self._write(handler, state)
                if jax.process_index() == 0 and self._all_written():
                    # Makes one checkpoint of the processes' parts.
                    handler.finalize(self._directory / STATE)
                    (self._directory / MARKS).rmtree()
                    self._complete()
            finally:
                handler.close()
        # Said by the main thread, whatever it is.
        except Exception as error:
            self.failure = error
        finally:
            self._copied.set()
            self._written.set()

    def _write(self, handler: ocp.StandardCheckpointHandler, state: Any) -> None:
        arguments = ocp.args.StandardSave(state)
        parts = asyncio.run(handler.async_save(self._directory / STATE, args=arguments))
        self._copied.set()
        for part in parts or ():
            part.result()
        (self._directory / MARKS / str(jax.process_index())).touch()
        self._written.set()

    def _all_written(self) -> bool:
        """Wait for the marks; false if it was given up."""
        while len(list((self._directory / MARKS).iterdir())) < jax.process_count():
            if self._given_up.wait(SECONDS_BETWEEN_LOOKS):
                return False
        return True
