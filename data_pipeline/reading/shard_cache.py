"""A directory on a local disk that keeps files fetched from buckets, within a given size.

The processes of a host share it: data workers, and other runs. Locks (`flock`) keep them apart; the system
frees those of a process that ends.

=====================  ====================================================================================
``.lock``              locked while room is made or a file becomes whole, so that the sizes add up
``…/NAME.fetching``    locked while NAME is fetched, so that one process fetches it and the others wait; a
                       file without content, whose length is the room that is kept for NAME
``…/NAME.partial``     what has come of NAME so far
``…/NAME``             a file that is whole; locked by each process that reads it
=====================  ====================================================================================

Room is made by deleting the files that were opened least recently, and never one that a process reads: the
disk would keep a deleted file as long as it is open. The time of change of a file is when it was last opened.
"""

import contextlib
import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from data_pipeline.common.buckets import PATIENCE, is_bucket
from data_pipeline.common.errors import one_line

_LOCK, _FETCHING, _PARTIAL = ".lock", ".fetching", ".partial"
_SECONDS_TO_LOOK = 0.2
_LONGEST_MESSAGE = 400

Fetch = Callable[[Path], None]
"""Writes the content of a file to a path."""


class NoRoomError(OSError):
    """All files of the cache are in use, and together they leave too little room."""


class Holder(Protocol):
    """Keeps files open."""

    def release(self, idle: float) -> None:
        """Close those that have not been read for `idle` seconds."""
        ...


class HeldFile:
    """A whole file that is not deleted until it is closed, or until nothing refers to this.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._close = weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """Let the file be deleted."""
        self._close()


class ShardCache:
    """The files below a directory. Picklable; the copy of another process shares the directory.

    Attributes:
        directory: where the files are; `make` makes it.
        limit: most bytes that they may take together; None for as many as the disk has.
        holders: what in this process keeps files open that it does not read at the moment.

    Args:
        directory: on a local disk.
        limit: see above.

    Raises:
        ValueError: the directory is in a bucket.
    """

    def __init__(self, directory: str | os.PathLike[str], limit: int | None = None) -> None:
        if is_bucket(directory):
            raise ValueError(f"data.cache {directory} is in a bucket: give a directory on a local disk")
        self.directory = Path(os.path.abspath(directory))
        self.limit = limit
        self.holders: weakref.WeakSet[Holder] = weakref.WeakSet()
        self._claimed = 0

    def make(self) -> None:
        """Make the directory if it is missing.

        Raises:
            ValueError: it cannot be written or locked.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._locked():
                pass
        except OSError as error:
            raise ValueError(
                f"data.cache {self.directory} cannot be used ({error.strerror or error}): give a directory "
                "on a local disk"
            ) from error

    def __reduce__(self) -> tuple[type["ShardCache"], tuple[Path, int | None]]:
        return ShardCache, (self.directory, self.limit)

    def hold(
        self, name: str, size: int, fetch: Fetch, patience: float = PATIENCE, spare: Collection[str] = ()
    ) -> HeldFile:
        """Fetch a file if it is not here, and keep it until it is closed.

        Args:
            name: path of the file relative to the directory.
            size: its number of bytes.
            fetch: writes it to a path. It is called once, whatever number of processes ask.
            patience: seconds to wait for room.
            spare: names of files not to delete.

        Raises:
            NoRoomError: no room within `patience` seconds.
            OSError: the file could not be fetched, or has another size.
        """
        end = time.monotonic() + patience
        while (held := self._open(name, size)) is None:
            try:
                mark = self._begin(name, size, spare)
            except NoRoomError:
                if time.monotonic() >= end:
                    raise
                self.release()
                time.sleep(_SECONDS_TO_LOOK)
                continue
            if mark is not None:
                self._fetch(name, size, fetch, mark)
        return held

    def has(self, name: str) -> bool:
        """Whether a file is here, whole."""
        return (self.directory / name).exists()

    def release(self, idle: float = 0.0) -> None:
        """Close the files that this process has kept open without reading them for `idle` seconds."""
        for holder in tuple(self.holders):
            holder.release(idle)

    def claim(self, needed: int, what: str, remedy: str) -> None:
        """Refuse files for which there is no room, besides those that were claimed before.

        Args:
            needed: most bytes that they take at a time.
            what: the files in words.
            remedy: what to do, in words, where the limit is too low.

        Raises:
            ValueError: more than the limit or than the disk has.
        """
        before, self._claimed = self._claimed, self._claimed + needed
        besides = f" besides {_gb(before)} of other sets" if before else ""
        takes = f"{what}: shards of {_gb(needed)} must lie in data.cache {self.directory} at a time{besides}"
        if self.limit is not None and self._claimed > self.limit:
            raise ValueError(f"{takes}, but data.cache_gb is {_gb(self.limit)}: {remedy}")
        here = sum(state.st_size for state in self._files().values())
        if self._claimed > (free := shutil.disk_usage(self.directory).free + here):
            raise ValueError(f"{takes}, but its disk has room for {_gb(free)}: take another, or {remedy}")

    # --- Locks and files ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str, size: int) -> HeldFile | None:
        """Hold a file that is here; None if it is not. One of another size is deleted: a crash cut it."""
        path = self.directory / name
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        held = HeldFile(path, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        state = os.fstat(descriptor)
        if state.st_nlink and state.st_size == size:
            os.utime(path)
            return held
        if state.st_nlink:
            path.unlink(missing_ok=True)
        held.close()
        return None

    def _begin(self, name: str, size: int, spare: Collection[str]) -> int | None:
        """Make room for a file and announce it: the descriptor of its mark, which is locked.

        Returns:
            None if another process has fetched it meanwhile, for which this waits.

        Raises:
            NoRoomError: too much of the cache is in use.
            OSError: the other process could not fetch it.
        """
        mark = self.directory / f"{name}{_FETCHING}"
        with self._locked():
            if self.has(name):
                return None
            mark.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if _locks(descriptor) and os.fstat(descriptor).st_nlink:
                    self._make_room(name, size, spare)
                    os.truncate(descriptor, size)
                    return descriptor
            except BaseException:
                mark.unlink()
                os.close(descriptor)
                raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # until the other process is done
            told = os.pread(descriptor, _LONGEST_MESSAGE, 0).rstrip(b"\0")
        finally:
            os.close(descriptor)
        if told:
            raise OSError(told.decode(errors="replace"))
        return None

    def _fetch(self, name: str, size: int, fetch: Fetch, mark: int) -> None:
        """Fetch a file that `_begin` has announced; a process that waits for it gets the error too."""
        path, partial = self.directory / name, self.directory / f"{name}{_PARTIAL}"
        mark_file = self.directory / f"{name}{_FETCHING}"
        try:
            fetch(partial)
            if (found := partial.stat().st_size) != size:
                raise OSError(f"{path.name} has {found:,} bytes, not {size:,} as listed: copy the set again")
            with self._locked():  # whoever counts the files finds the mark or the file, never neither
                partial.rename(path)
                mark_file.unlink(missing_ok=True)
        except Exception as error:
            os.truncate(mark, 0)
            os.pwrite(mark, one_line(error, _LONGEST_MESSAGE // 4).encode(), 0)
            raise
        finally:
            partial.unlink(missing_ok=True)
            mark_file.unlink(missing_ok=True)
            os.close(mark)

    def _files(self) -> dict[str, os.stat_result]:
        """Name → state of every file that counts: whole ones, and marks with the room they keep."""
        found = {}
        for directory, _, names in os.walk(self.directory):
            for name in names:
                path = os.path.join(directory, name)
                if name != _LOCK and not name.endswith(_PARTIAL):
                    with contextlib.suppress(FileNotFoundError):
                        found[os.path.relpath(path, self.directory)] = os.stat(path)
        return found

    def _make_room(self, name: str, size: int, spare: Collection[str]) -> None:
        """Delete the files opened least recently until there is room. The cache is locked.

        Raises:
            NoRoomError: files in use leave too little room; nothing is deleted.
        """
        files = self._files()
        files.pop(f"{name}{_FETCHING}", None)
        for mark in [one for one in files if one.endswith(_FETCHING) and self._remove_left_over(one)]:
            del files[mark]
        over = size - self._room(files)
        chosen: dict[str, int] = {}
        try:
            for other in sorted(files, key=lambda one: files[one].st_mtime_ns):
                if over <= 0:
                    break
                if other in spare or other.endswith(_FETCHING):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    descriptor = os.open(self.directory / other, os.O_RDONLY)
                    if _locks(descriptor):
                        chosen[other] = descriptor
                        over -= files[other].st_size
                    else:
                        os.close(descriptor)
            if over > 0:
                raise NoRoomError(
                    f"data.cache {self.directory} has no room for {name} ({_gb(size)}): other shards are in "
                    "use; raise data.cache_gb, or give each run a cache of its own"
                )
            for other in chosen:
                (self.directory / other).unlink(missing_ok=True)
        finally:
            for descriptor in chosen.values():
                os.close(descriptor)

    def _room(self, files: Mapping[str, os.stat_result]) -> int:
        """The bytes that limit and disk leave free; marks count as the files that are to come."""
        coming = 0
        for name, state in files.items():
            if name.endswith(_FETCHING):
                partial = self.directory / f"{name.removesuffix(_FETCHING)}{_PARTIAL}"
                with contextlib.suppress(FileNotFoundError):
                    coming -= partial.stat().st_size
                coming += state.st_size
        room = shutil.disk_usage(self.directory).free - coming
        if self.limit is None:
            return room
        return min(room, self.limit - sum(state.st_size for state in files.values()))

    def _remove_left_over(self, mark: str) -> bool:
        """Remove what a process has left that was killed while it fetched a file; whether it was so."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self.directory / mark, os.O_RDWR)
            try:
                if not _locks(descriptor):
                    return False
                partial = self.directory / f"{mark.removesuffix(_FETCHING)}{_PARTIAL}"
                partial.unlink(missing_ok=True)
                (self.directory / mark).unlink(missing_ok=True)
            finally:
                os.close(descriptor)
        return True


def _locks(descriptor: int) -> bool:
    """Lock a file for this process alone, if no other has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _gb(size: int) -> str:
    return f"{size / 1e9:,.3g} GB"
