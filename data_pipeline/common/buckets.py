"""Objects in a bucket; every request is tried again until it succeeds or patience has run out.

A bucket (`gs://`, `s3://`, `az://`) has no directories, no locks and no renaming, and an object appears
whole or not at all. All access goes through fsspec, whose packages talk to the service: gcsfs, s3fs, adlfs.
Listings are never cached, because other processes write to the same place.
"""

import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from data_pipeline.common.errors import one_line

PATIENCE = 600.0
"""Seconds for which a request is tried again: longer than most failures of a service."""
PATIENCE_AT_FIRST = 20.0
"""The same for the first request of a command, so that a wrong name or missing rights show soon."""
LONGEST_PAUSE = 20.0
"""Most seconds between two tries."""
SECONDS_TO_REPORT = 30.0
"""Seconds after which a line says that a request is still being tried again."""
THREADS = 16
"""Objects that are sent or fetched at a time."""
PACKAGES = {"gs": "hicmae_jax[gcs]", "s3": "hicmae_jax[s3]", "az": "adlfs"}
"""What to install for each kind of bucket."""
_SMALL = 5 << 20
"""Bytes from which gcsfs sends a file in pieces."""
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 30.0, 300.0
# These answers stay the same however often one asks.
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, ImportError, ValueError, TypeError)
_REFUSED_CODES = ("401", "403")

Answer = TypeVar("Answer")


class BucketError(OSError):
    """A request failed until patience ran out, or was refused."""


class Bucket:
    """The objects below one URL.

    Args:
        url: such as `gs://bucket/runs/b`; it need not hold anything yet.
        patience: seconds for which a request is tried again; None for `PATIENCE`.

    Attributes:
        url: the URL without a slash at its end.
        patience: as given; may be changed.

    Raises:
        ImportError: the package for this kind of bucket is missing.
    """

    def __init__(self, url: str | os.PathLike[str], patience: float | None = None) -> None:
        self.url = os.fspath(url).rstrip("/")
        self.patience = PATIENCE if patience is None else patience
        self._files = _file_system(self.url)

    def __str__(self) -> str:
        return self.url

    def read(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: there is none of this name.
            BucketError: it cannot be read.
        """
        return self._try("read", name, lambda path: self._files.cat_file(path))

    def size(self, name: str) -> int | None:
        """The number of bytes of an object; None if there is none. An old listing does not hide it.

        Raises:
            BucketError: it cannot be asked for.
        """
        try:
            about = self._try("read", name, lambda path: self._files.info(path))
        except FileNotFoundError:
            return None
        return int(about["size"]) if about.get("type") == "file" else None

    def modified(self, name: str) -> float:
        """When an object was written, in seconds since 1970, by the clock of the service.

        Raises:
            FileNotFoundError: there is none of this name.
            BucketError: it cannot be asked for.
        """
        time_of = self._try("read", name, lambda path: self._files.modified(path))
        return float(time_of.timestamp())

    def write(self, name: str, content: bytes) -> None:
        """Write an object, in place of an earlier one.

        Raises:
            BucketError: it cannot be written.
        """
        self._try("written", name, lambda path: self._put(path, content))

    def create(self, name: str, content: bytes) -> bool:
        """Write an object only if there is none of this name; of several writers, one succeeds.

        Returns:
            Whether it was written. After a lost answer it may have been written although this is false.

        Raises:
            BucketError: it cannot be written.
        """
        try:
            self._try("written", name, lambda path: self._put(path, content, mode="create"))
        except FileExistsError:
            return False
        return True

    def list(self, under: str = "") -> dict[str, int]:
        """Name → size of every object, of those whose names begin with `under/` if it is given.

        Raises:
            BucketError: the bucket cannot be listed.
        """
        found = self._try("listed", under, lambda path: self._files.find(path, detail=True))
        start = len(self._files._strip_protocol(self.url)) + 1
        return {path[start:]: int(about["size"]) for path, about in found.items() if len(path) > start}

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error.

        Raises:
            BucketError: one cannot be deleted.
        """
        self._all(names, lambda name: self._try("deleted", name, self._remove))

    def copy(self, names: Mapping[str, str]) -> None:
        """Copy objects inside the bucket.

        Args:
            names: name → name of the copy.

        Raises:
            FileNotFoundError: an object is missing.
            BucketError: one cannot be copied.
        """

        def one(name: str) -> None:
            target = self._path(names[name])
            self._try("copied", name, lambda path: self._files.cp_file(path, target))

        self._all(names, one)

    def upload(self, files: Mapping[str, Path]) -> None:
        """Send files. gcsfs compares the sizes that have arrived, and s3fs checksums.

        Args:
            files: name → file on disk.

        Raises:
            BucketError: one cannot be sent.
            OSError: a file cannot be read.
        """

        def send(name: str) -> None:
            if files[name].stat().st_size < _SMALL:
                self.write(name, files[name].read_bytes())
            else:
                self._try("written", name, lambda path: self._files.put_file(str(files[name]), path))

        self._all(files, send)

    def download(self, files: Mapping[str, Path], absent_too: bool = False) -> None:
        """Fetch objects into files; directories are made.

        Args:
            files: name → file to write.
            absent_too: leave out what is missing, instead of raising an error.

        Raises:
            FileNotFoundError: an object is missing.
            BucketError: one cannot be fetched.
        """

        def fetch(name: str) -> None:
            file = files[name]
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._try("read", name, lambda path: self._files.get_file(path, str(file)))
            except FileNotFoundError:
                file.unlink(missing_ok=True)
                if not absent_too:
                    raise

        self._all(files, fetch)

    # --- Parts ----------------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    def _put(self, path: str, content: bytes, **choices: Any) -> None:
        if self.url.startswith("gs://") and content.endswith(b"\r"):
            # gcsfs ends a small upload with a line feed, and a server may take both for the line break. An
            # upload in pieces, here in one, has no such end.
            choices["chunksize"] = len(content)
        self._files.pipe_file(path, content, **choices)

    def _remove(self, path: str) -> None:
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return

    def _all(self, names: Iterable[str], act: Callable[[str], object]) -> None:
        names = list(names)
        if names:
            with ThreadPoolExecutor(min(THREADS, len(names))) as pool:
                for _ in pool.map(act, names):
                    pass

    def _try(self, done: str, name: str, ask: Callable[[str], Answer]) -> Answer:
        """Ask until there is an answer.

        Raises:
            BucketError: no answer within `patience` seconds, or the request was refused.
        """
        path, pause = self._path(name), 0.25
        begun, reported = time.monotonic(), False
        while True:
            try:
                return ask(path)
            except (FileNotFoundError, FileExistsError):
                raise
            # The packages and what they stand on raise errors of many kinds.
            except Exception as error:
                final = isinstance(error, _FINAL) or _is_refusal(error)
                tried = time.monotonic() - begun
                if final or tried + pause > self.patience:
                    raise BucketError(f"{path} cannot be {done}: {_described(error)}") from error
                if tried > SECONDS_TO_REPORT and not reported:
                    tqdm.write(f"trying again: {path} is not {done}: {_described(error)}", file=sys.stderr)
                    reported = True
            time.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(2 * pause, LONGEST_PAUSE)


def is_bucket(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the URL of a bucket."""
    return "://" in os.fspath(path)


def check_kind(path: str | os.PathLike[str]) -> None:
    """Refuse a bucket of a kind that etils does not know, with which its paths raise a KeyError.

    Raises:
        ValueError: one line that names the path and the known kinds.
    """
    if is_bucket(path) and os.fspath(path).partition("://")[0] not in PACKAGES:
        kinds = ", ".join(f"{kind}://" for kind in PACKAGES)
        raise ValueError(f"{os.fspath(path)}: no bucket of this kind is known; give {kinds}")


def _is_refusal(error: Exception) -> bool:
    """Whether an account lacks rights; only what gcsfs says of it counts, as a path may have any number."""
    return str(getattr(error, "code", "")) in _REFUSED_CODES or str(error).startswith("Forbidden: ")


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error, 200)}"


def _file_system(url: str) -> Any:
    import fsspec

    check_kind(url)
    scheme = url.partition("://")[0]
    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        if scheme == "gs":
            import aiohttp

            logging.getLogger("gcsfs").setLevel("CRITICAL")  # it would print each error that is tried again
            options["consistency"] = "size"
            options["requests_timeout"] = aiohttp.ClientTimeout(
                sock_connect=_SECONDS_TO_CONNECT, sock_read=_SECONDS_TO_ANSWER
            )
        return fsspec.core.url_to_fs(url, **options)[0]
    except ImportError as error:
        raise ImportError(
            f"{url} needs a package that is missing ({one_line(error)}): pip install '{PACKAGES[scheme]}'"
        ) from error
