"""Keeps other processes out of a directory while one process writes to it.

The file `in_use.json` in the directory names the process that holds it::

    {"process": 4711, "host": "node3", "token": "9f86d081884c7d65"}

Two things keep others out:

- **A lock** of the system on that file. The system releases it when the process ends, even by SIGKILL, so
  the same command can start again at once.
- **A lease**, where the file system has no locks, or where the file names a process of another host, which a
  lock may not reach. The holder renews the time stamp of the file every 10 s. Another process watches the
  file for 60 s, and takes the directory over only if the stamp has not changed. No two clocks are compared.

A process that was suspended for longer may find another name in the file. It ends then.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn, Self

from hicmae_jax.hosts import final_message
from hicmae_jax.logs.events import say

FILE = "in_use.json"
RENEWED_EVERY, EXPIRES_AFTER = 10.0, 60.0
"""Seconds from one renewal of a lease to the next, and seconds without one after which it has expired."""
SETTLES_AFTER = 2.0
"""Seconds after which a process looks whether another one has taken the same lease at the same moment."""
LOOKS_EVERY = 0.5
"""Seconds from one look at the lease of another process to the next."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class InUseError(ValueError):
    """Another process writes to the directory."""


class Holder(NamedTuple):
    """The process that holds a directory.

    Attributes:
        process: its number on its host.
        host: name of the host.
        token: random text, different for each start.
    """

    process: int
    host: str
    token: str


class Hold:
    """Holds a directory as long as the context lasts.

    Args:
        directory: directory on a local or mounted disk; it is made if it is missing.
        lost: called in another thread, with one line, if another process has taken the directory over. By
            default it ends this process with exit code 1.
    """

    def __init__(
        self, directory: str | os.PathLike[str], lost: Callable[[str], object] | None = None
    ) -> None:
        self._directory = Path(directory)
        self._path = self._directory / FILE
        self._lost = lost or end_process
        self._me = Holder(os.getpid(), socket.gethostname(), secrets.token_hex(8))
        self._made: list[Path] = []
        self._descriptor, self._locked = -1, False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, name="in use", daemon=True)

    def __enter__(self) -> Self:
        """Take the directory.

        Raises:
            InUseError: another process holds it; the line names the process and its host.
            OSError: the directory cannot be written.
        """
        try:
            self._made = [path for path in (self._directory, *self._directory.parents) if not path.exists()]
            self._directory.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as error:
            self._release()
            raise OSError(
                f"{self._directory} cannot be written ({error.strerror}): give another directory"
            ) from error
        except BaseException:
            self._release()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(5.0)  # it may never end, if the disk hangs
        self._release()

    # --- Taking ---------------------------------------------------------------------------------------------

    def _take(self) -> None:
        self._open()
        other = _read(self._path)
        while other is not None and not (self._locked and other.host == self._me.host):
            self._wait_until_expired(other)
            if _is_same_file(self._descriptor, self._path):
                break
            self._open()
            other = _read(self._path)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(self._me._asdict()).encode() + b"\n", 0)
        os.fsync(self._descriptor)
        if not self._locked:
            time.sleep(SETTLES_AFTER)
            winner = _read(self._path)
            if winner != self._me:
                raise InUseError(self._describe(winner))

    def _open(self) -> None:
        """Open the file, and lock it where the file system has locks."""
        while True:
            self._close()
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUseError(self._describe(_read(self._path))) from None
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    return
                raise
            # The process that held the file before may have removed it after this one has opened it.
            self._locked = _is_same_file(self._descriptor, self._path)
            if self._locked:
                return

    def _wait_until_expired(self, other: Holder) -> None:
        """Watch the time stamp of a process that may be alive, on a host that a lock may not reach.

        Raises:
            InUseError: the process is alive.
        """
        say(
            f"{self._directory} was left as if in use by process {other.process} on {other.host}: waiting "
            f"{EXPIRES_AFTER:g} s to see whether that process is alive"
        )
        end = time.monotonic() + EXPIRES_AFTER
        with contextlib.suppress(FileNotFoundError):  # that process has ended now
            before = _stamp(self._path)
            while time.monotonic() < end:
                time.sleep(LOOKS_EVERY)
                if _stamp(self._path) != before:
                    raise InUseError(self._describe(_read(self._path)))

    def _describe(self, other: Holder | None) -> str:
        who = "another process" if other is None else f"process {other.process} on host {other.host}"
        return f"{self._directory} is in use by {who}: wait for its end, or give another directory"

    # --- Holding --------------------------------------------------------------------------------------------

    def _renew_until_stopped(self) -> None:
        while not self._stopping.wait(RENEWED_EVERY):
            # If the disk fails only for a moment, nothing has happened.
            with contextlib.suppress(OSError):
                other = _read(self._path)
                if other is not None and other != self._me:
                    self._lost(
                        f"{self._directory} was taken over by process {other.process} on host {other.host}, "
                        f"because this process was silent for {EXPIRES_AFTER:g} s or {FILE} was deleted"
                    )
                    return
                os.utime(self._path)

    def _release(self) -> None:
        """Remove the file and the directories that were made, if they are empty, and release the lock."""
        with contextlib.suppress(OSError):
            found = _read(self._path)
            if found == self._me or (found is None and self._locked):
                self._path.unlink()  # while it is locked, so that no other process holds this file
        self._close()
        with contextlib.suppress(OSError):
            for path in self._made:
                path.rmdir()

    def _close(self) -> None:
        self._locked = False
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _read(path: Path) -> Holder | None:
    """The process that the file names; None if there is no file, or its writer has not finished."""
    try:
        found = json.loads(path.read_bytes())
        return Holder(int(found["process"]), str(found["host"]), str(found["token"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _stamp(path: Path) -> tuple[bytes, int]:
    """Content and time of the file; it is opened anew, because network file systems look again only then."""
    with path.open("rb") as file:
        return file.read(), os.fstat(file.fileno()).st_mtime_ns


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def end_process(line: str) -> NoReturn:
    """End the process from another thread, before it writes anything more."""
    try:
        final_message.write(line)
    finally:
        os._exit(1)
