"""Agreement between the hosts of a run before it begins: all begin with the same settings, or none begins.

Every process must make the same calls in the same order, because each call waits for all processes. In a run
of one process they return at once.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict
from jax.experimental import multihost_utils

from data_pipeline.common import anywhere
from data_pipeline.common.buckets import is_bucket
from data_pipeline.common.errors import one_line

# By default as many as the host has cores; the results do not depend on it.
MAY_DIFFER = ("config.data.threads",)
SHOWN = 5
"""Most differences that a message names."""
MARK = ".seen_by_all_hosts"
SECONDS_TO_SEE = 10.0
"""Seconds for which a host waits for a new file: network file systems show it to other hosts later."""


class RefusedError(ValueError):
    """The reason why no host begins; raised on all hosts."""


def exchange(text: str) -> list[str]:
    """Send this process's text to all processes, and receive theirs.

    Args:
        text: text of this process, of any length.

    Returns:
        The texts in the order of the processes' numbers.
    """
    if jax.process_count() == 1:
        return [text]
    mine = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(mine.size))
    padded = np.zeros(max(1, *lengths), np.uint8)  # all processes must give arrays of one length
    padded[: mine.size] = mine
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """If the block fails on one host, fail on all.

    Nothing inside may wait for other hosts, because a host that has failed does not reach it.

    Raises:
        RefusedError: a host has failed with a ValueError, OSError, RuntimeError or ImportError. On the other
            hosts its number stands before its message. A run of one process raises the error itself.
    """
    failure = None
    try:
        yield
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if jax.process_count() == 1:
            raise
        failure = error
    messages = exchange("" if failure is None else one_line(failure))
    if failure is not None:
        raise RefusedError(one_line(failure)) from failure
    for host, message in enumerate(messages):
        if message:
            raise RefusedError(f"host {host}: {message}")


def check_alike(**parts: Mapping[str, Any]) -> None:
    """Refuse hosts with different settings; name each setting that differs, with the value of each host.

    Args:
        **parts: what must be the same on all hosts, by name; nested dictionaries that JSON can hold.

    Raises:
        RefusedError: the same line on every host.
    """
    told = [flatten_dict(json.loads(text), sep=".") for text in exchange(json.dumps(parts))]
    absent = object()
    differing = []
    for name in dict.fromkeys(name for settings in told for name in settings):
        values = [settings.get(name, absent) for settings in told]
        if name not in MAY_DIFFER and any(value != values[0] for value in values):
            shown = ["absent" if value is absent else repr(value) for value in values]
            differing.append(f"{name} is {_by_host(shown)}")
    if differing:
        more = f"; and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        raise RefusedError(
            f"the hosts are not alike: {'; '.join(differing[:SHOWN])}{more}. Give every host the same "
            "command, code and data"
        )


def check_shared(directory: epath.PathLike) -> None:
    """Refuse a directory that is not the same on all hosts, for example one on each host's own disk.

    The first host creates a file in the directory and deletes it later. It creates a missing directory first.

    Args:
        directory: where all hosts will write.

    Raises:
        RefusedError: a host does not see the file, and is named; or the directory cannot be written.
    """
    if jax.process_count() == 1:
        return
    directory = epath.Path(directory)
    mark, first = directory / MARK, jax.process_index() == 0
    begun = is_bucket(directory) or directory.exists()
    token = exchange(secrets.token_hex(8))[0]
    try:
        with all_or_none():
            if first:
                _write(mark, token)
        blind = [host for host, seen in enumerate(exchange("yes" if _shows(mark, token) else "")) if not seen]
        if blind:
            raise RefusedError(
                f"{directory} is not the same directory on all hosts: what host 0 writes there is not seen "
                f"on {name_hosts(blind)}; give one that all share"
            )
    finally:
        if first:
            with contextlib.suppress(OSError):  # also if it could not be written
                anywhere.remove(mark)
                if not begun and not any(directory.iterdir()):
                    directory.rmdir()


def _write(mark: epath.Path, token: str) -> None:
    try:
        anywhere.write(mark, token.encode())
    except OSError as error:
        raise OSError(
            f"{mark.parent} cannot be written ({error.strerror or error}): give another directory"
        ) from error


def name_hosts(numbers: Sequence[int]) -> str:
    """Hosts in words, such as `host 2` or `hosts 0, 2 and 3`."""
    if len(numbers) == 1:
        return f"host {numbers[0]}"
    return f"hosts {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _shows(mark: epath.Path, token: str) -> bool:
    end = time.monotonic() + SECONDS_TO_SEE
    while True:
        with contextlib.suppress(OSError):
            if anywhere.read(mark).decode("utf-8", "replace") == token:
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)


def _by_host(values: Sequence[str]) -> str:
    """The value of each host in words, such as `8 on host 0, 16 on hosts 1 and 2`."""
    by_value: dict[str, list[int]] = {}
    for host, value in enumerate(values):
        by_value.setdefault(value, []).append(host)
    return ", ".join(f"{value} on {name_hosts(numbers)}" for value, numbers in by_value.items())
