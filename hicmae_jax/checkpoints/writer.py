"""Writes a state to disk in a thread while training continues.

Every process writes its part of the arrays, then a mark. The first process waits for the marks of all
processes and completes the checkpoint. No collective operation is used: it would stall training, and it would
never return if a process has failed or ended.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp

from hicmae_jax.checkpoints.reader import STATE
from hicmae_jax.checkpoints.store import Store


class Writer:
    """Writes one state. Every process makes its own writer.

    Attributes:
        failure: the error of this process; None if there is none so far.
    """

    def __init__(self, store: Store, step: int, state: Any, complete: Callable[[], None]) -> None:
        """Begin to write. Returns once the state has been copied; the caller may then donate it.

        Args:
            store: where the checkpoint will lie; its `begin` was called in every process.
            step: step of the checkpoint.
            state: tree of arrays.
            complete: called in the first process when all parts are written.
        """
        self.failure: Exception | None = None
        self._store, self._step = store, step
        self._directory = store.part(step)
        self._complete = complete
        self._copied, self._written, self._given_up = (threading.Event() for _ in range(3))
        # A daemon thread, so that a process that ends for another reason does not wait for missing marks.
        self._thread = threading.Thread(target=self._run, args=(state,), name="checkpoint", daemon=True)
        self._thread.start()
        self._copied.wait()

    def wait_written(self) -> None:
        """Wait until this process has written its part, or failed to."""
        self._written.wait()

    def wait_complete(self, timeout: float | None = None) -> bool:
        """Wait until this process has nothing left to do for the checkpoint.

        Args:
            timeout: seconds to wait at most; None for no limit.

        Returns:
            Whether this process has nothing left to do.
        """
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Stop waiting for the parts of other processes, because one of them will not come."""
        self._given_up.set()
        self._thread.join()

    def _run(self, state: Any) -> None:
        try:
            handler = ocp.StandardCheckpointHandler()
            try:
                self._write(handler, state)
                if jax.process_index() == 0 and self._all_written():
                    self._store.gather(self._step)
                    # Merge the parts of all processes into one checkpoint.
                    handler.finalize(self._directory / STATE)
                    self._complete()
            finally:
                handler.close()
        # Keep any error; the main thread reports it.
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
        self._store.mark(self._step)
        self._written.set()

    def _all_written(self) -> bool:
        """Wait for the marks of all processes; false if `give_up` was called."""
        while not self._store.has_all(self._step):
            if self._given_up.wait(self._store.seconds_between_looks):
                return False
        return True
