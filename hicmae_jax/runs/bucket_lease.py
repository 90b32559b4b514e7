"""Keeps other processes out of a directory in a bucket while one process writes to it.

A bucket has no locks. The object `in_use.json` names the holder, who writes it anew every 10 s with another
number. Another process watches it for 60 s, and takes the directory over only if nothing has changed. No two
clocks are compared. Of a holder on the same machine it is known whether it is alive.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from data_pipeline.common.buckets import Bucket
from hicmae_jax.logs.events import say
from hicmae_jax.runs import alive
from hicmae_jax.runs.in_use import EXPIRES_AFTER, FILE, RENEWED_EVERY, SETTLES_AFTER, InUseError, end_process

LOOKS_EVERY = 2.0
"""Seconds from one look at the lease of another process to the next."""
PATIENCE = 20.0
"""Seconds for which one request is tried again; the next renewal tries anew."""


class BucketLease:
    """Holds a directory as long as the context lasts; see `in_use.Hold` for one on a disk.

    Args:
        directory: URL of the directory.
        lost: called in another thread, with one line, if another process has taken the directory over. By
            default it ends this process with exit code 1.

    Raises:
        ImportError: the package for this kind of bucket is missing.
    """

    def __init__(
        self, directory: str | os.PathLike[str], lost: Callable[[str], object] = end_process
    ) -> None:
        self._bucket = Bucket(directory, PATIENCE)
        self._lost = lost
        self._me: dict[str, Any] = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "token": secrets.token_hex(8),
            "identity": alive.identity(),
        }
        self._renewals = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, name="in use", daemon=True)

    def __enter__(self) -> Self:
        """Take the directory.

        Raises:
            InUseError: another process holds it; the line names the process and its host.
            OSError: the bucket cannot be read or written.
        """
        if not self._bucket.create(FILE, self._content()):
            self._take_over()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        with contextlib.suppress(OSError):
            if self._is_mine(self._read()):
                self._bucket.delete([FILE])

    def check(self) -> None:
        """Refuse to go on if another process holds the directory.

        Raises:
            InUseError: another process has taken it over.
            OSError: the bucket cannot be read.
        """
        holder = self._read()
        if holder and not self._is_mine(holder):
            raise InUseError(self._taken_over(holder))

    def _take_over(self) -> None:
        """Take the place of a holder that does not renew its lease."""
        holder = self._read()
        if self._is_mine(holder):
            return  # the answer to `create` was lost
        is_alive = alive.is_alive(str(holder.get("identity", ""))) if holder else False
        if is_alive:
            raise InUseError(self._in_use(holder))
        if is_alive is None:
            self._wait_until_expired(holder)
        self._bucket.write(FILE, self._content())
        time.sleep(SETTLES_AFTER)
        holder = self._read()
        if not self._is_mine(holder):
            raise InUseError(self._in_use(holder))

    def _wait_until_expired(self, holder: dict[str, Any]) -> None:
        """Watch the lease of a process that may be alive.

        Raises:
            InUseError: it is alive.
        """
        say(
            f"{self._bucket} was left as if in use by {_described(holder)}: waiting {EXPIRES_AFTER:g} s to "
            "see whether that process is alive"
        )
        end = time.monotonic() + EXPIRES_AFTER
        while time.monotonic() < end:
            time.sleep(LOOKS_EVERY)
            now = self._read()
            if not now:
                return
            if now != holder:
                raise InUseError(self._in_use(now))

    def _renew_until_stopped(self) -> None:
        while not self._stopping.wait(RENEWED_EVERY):
            # If the bucket fails only for a moment, nothing has happened.
            with contextlib.suppress(OSError):
                holder = self._read()
                if holder and not self._is_mine(holder):
                    self._lost(self._taken_over(holder))
                    return
                self._renewals += 1
                self._bucket.write(FILE, self._content())

    # --- The object -----------------------------------------------------------------------------------------

    def _content(self) -> bytes:
        return json.dumps({**self._me, "renewals": self._renewals}).encode()

    def _read(self) -> dict[str, Any]:
        """The content of the object; empty if there is none."""
        try:
            found = json.loads(self._bucket.read(FILE))
        except FileNotFoundError:
            return {}
        except ValueError:
            return {"process": "unknown", "host": "unknown"}
        return found if isinstance(found, dict) else {"process": "unknown", "host": "unknown"}

    def _is_mine(self, holder: dict[str, Any]) -> bool:
        return holder.get("token") == self._me["token"]

    def _in_use(self, holder: dict[str, Any]) -> str:
        return (
            f"{self._bucket} is in use by {_described(holder)}: wait for its end, or give another directory"
        )

    def _taken_over(self, holder: dict[str, Any]) -> str:
        return (
            f"{self._bucket} was taken over by {_described(holder)}, because this process was silent for "
            f"{EXPIRES_AFTER:g} s or {FILE} was deleted"
        )


def _described(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('process')} on host {holder.get('host')}"
