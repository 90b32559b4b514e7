"""Files of a run in a bucket: they are written to a local disk, and sent when they change.

Nothing can be appended to an object, so a file that has grown is sent as a whole. The time that sending may
take is bounded: after it, a thread waits for 20 times as long. Checkpoints take another way
(`bucket_store`).
"""

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.common.buckets import Bucket
from hicmae_jax.logs.events import say

SENT_EVERY = 10.0
"""Seconds from one look for changed files to the next."""
WAITS = 20.0
"""Times as long as sending took, before files are sent again."""
PATIENCE_AT_END = 120.0
"""Seconds for which a process that ends tries to send what has changed."""

_Stamp = tuple[int, int]


class Mirror:
    """A local directory whose files are sent to a bucket as long as the context lasts; `close` removes it.

    Args:
        url: the directory in the bucket.

    Attributes:
        directory: the local directory.

    Raises:
        ImportError: the package for this kind of bucket is missing.
    """

    def __init__(self, url: epath.PathLike) -> None:
        self._bucket = Bucket(url)
        self.directory = Path(tempfile.mkdtemp(prefix="hicmae-run-"))
        self._kept = False
        self._sent: dict[str, _Stamp] = {}
        self._sending = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send_until_stopped, name="mirror", daemon=True)

    def __enter__(self) -> Self:
        """Start to send what changes from now on; call `fetch` before, to continue earlier files."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._bucket.patience = min(self._bucket.patience, PATIENCE_AT_END)
        try:
            self.send()
        except OSError as failure:
            say(f"{failure}; the last files of the run are in {self.directory}")
            self._kept = True

    def close(self) -> None:
        """Remove the local directory, unless it has files that could not be sent."""
        if not self._kept:
            shutil.rmtree(self.directory, ignore_errors=True)

    def fetch(self, names: Iterable[str] = (), besides: Collection[str] = ()) -> None:
        """Copy files from the bucket to the directory.

        Args:
            names: files to fetch, of those that are there; none for all that a listing shows.
            besides: directories, at any depth, whose files are left out of the listing.

        Raises:
            OSError: the bucket cannot be read.
        """
        chosen = list(names) or [
            name for name in self._bucket.list() if not set(besides) & set(name.split("/"))
        ]
        self._bucket.download({name: self.directory / name for name in chosen}, absent_too=True)
        self._sent = {name: _stamp(path) for name, path in self._files().items()}

    def send(self) -> None:
        """Send every file that has changed since it was sent.

        Raises:
            OSError: one was not sent.
        """
        with self._sending, tempfile.TemporaryDirectory(prefix="hicmae-send-") as copies:
            stamps = {name: _stamp(path) for name, path in self._files().items()}
            changed = [name for name, stamp in stamps.items() if self._sent.get(name) != stamp]
            # Of copies, because a file may grow while it is sent.
            files = {name: Path(copies) / str(number) for number, name in enumerate(changed)}
            for name, copy in files.items():
                shutil.copyfile(self.directory / name, copy)
            self._bucket.upload(files)
            self._sent |= {name: stamps[name] for name in changed}

    def _send_until_stopped(self) -> None:
        pause = SENT_EVERY
        while not self._stopping.wait(pause):
            begun = time.monotonic()
            try:
                self.send()
            except OSError as failure:
                say(f"{failure}; it will be tried again")
            pause = max(SENT_EVERY, WAITS * (time.monotonic() - begun))

    def _files(self) -> dict[str, Path]:
        """Name → path of each file, without those that are being written under another name."""
        found = {}
        for path in self.directory.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.name.endswith(atomic_files.PARTIAL):
                    found[path.relative_to(self.directory).as_posix()] = path
        return found


def _stamp(path: Path) -> _Stamp:
    about = path.stat()
    return about.st_mtime_ns, about.st_size
