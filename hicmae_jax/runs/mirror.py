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
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.common.buckets import Bucket, is_bucket
from hicmae_jax.checkpoints.manager import DAMAGED
from hicmae_jax.checkpoints.reader import DIRECTORY
from hicmae_jax.hosts import agreement
from hicmae_jax.logs.events import say
from hicmae_jax.runs.in_use import FILE
from hicmae_jax.supervision import heartbeats

SENT_EVERY = 10.0
"""Seconds from one look for changed files to the next."""
WAITS = 20.0
"""Times as long as sending took, before files are sent again."""
PATIENCE_AT_END = 120.0
"""Seconds for which a process that ends tries to send what has changed."""

LEFT_OUT = frozenset(
    (
        *(DIRECTORY, DAMAGED, FILE, agreement.MARK, heartbeats.DIRECTORY),
        *("profile", "tensorboard", "wandb", "pictures"),
    )
)
"""Files and directories that are not fetched: a run never reads them, or they do not lie on its own disk."""

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

    def fetch(self, names: Iterable[str] = ()) -> None:
        """Copy the files that are there from the bucket to the directory, but those of `LEFT_OUT`.

        Args:
            names: files that are fetched even if a listing does not show them yet.

        Raises:
            OSError: the bucket cannot be read.
        """
        listed = {name for name in self._bucket.list() if not LEFT_OUT & set(name.split("/"))}
        chosen = {*listed, *names}
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


@contextlib.contextmanager
def files_of(directory: epath.Path) -> Iterator[epath.Path]:
    """The files of a directory on a disk; those of one in a bucket are fetched, and sent when they change.

    Args:
        directory: on a disk or in a bucket.

    Raises:
        OSError: the bucket cannot be read.
    """
    if not is_bucket(directory):
        yield directory
        return
    mirror = Mirror(directory)
    with contextlib.closing(mirror):
        mirror.fetch()
        with mirror:
            yield epath.Path(mirror.directory)


def _stamp(path: Path) -> _Stamp:
    about = path.stat()
    return about.st_mtime_ns, about.st_size
