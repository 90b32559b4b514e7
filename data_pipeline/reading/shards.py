"""Opens the shards of a set, and checks that each holds the records that the set's description says."""

import os
import resource
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

_SPARE_FILES = 256  # open files that the process needs besides the shards
_CHECKED = 384  # shards of a kind whose records are counted at the start: all, in sets of the usual size
_CHECKED_IN_ALL = 768  # the same for all sets of a mixture: to open a shard of 10,000 records takes 0.4 ms
_OPENERS = 32  # threads that open shards at the start: a network file system takes milliseconds for each


class _WholeFile(NamedTuple):
    """ArrayRecord's file instruction. A file described by it is opened only when it is first read."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def open_shards(description: epath.Path, lengths: Mapping[str, int], sets: int = 1) -> ArrayRecordDataSource:
    """Opens shards as one sequence of records. Each process opens a file when it first reads from it.

    A shard that is missing or damaged is no error here: reading its records reports it.

    Args:
        description: file that says how many records each shard has, for the message.
        lengths: path of each shard, in order → number of its records, at least 1.
        sets: number of sets that are opened together: of many large ones, not every shard is counted.

    Returns:
        The records of all shards. Picklable.

    Raises:
        ValueError: a shard has another number of records.
    """
    most = max(min(_CHECKED, _CHECKED_IN_ALL // sets), 1)
    checked = list(lengths)[:: -(-len(lengths) // most)]
    with ThreadPoolExecutor(_OPENERS) as pool:
        for file, found in zip(checked, pool.map(_records_in, checked)):
            if found not in (lengths[file], None):
                raise ValueError(
                    f"{description}: {file} should hold {lengths[file]} records but holds {found}: copy the "
                    "whole set again"
                )
    return ArrayRecordDataSource([_WholeFile(file, 0, n, n) for file, n in lengths.items()])


def _records_in(file: str) -> int | None:
    """Returns the number of records in a shard; None if it is missing or damaged, which reading reports."""
    try:
        os.stat(file)  # ArrayRecord would open a missing file as one without records
        reader = ArrayRecordReader(file, "readahead_buffer_size:0,max_parallelism:0")
        count = reader.num_records()
        reader.close()
    except Exception:  # ArrayRecord raises exceptions of many kinds
        return None
    return count or None  # a file without a footer seems to have none


def allow_open_files(files: int) -> None:
    """Raises this process's limit on open files, which its workers inherit, as far as needed.

    Args:
        files: number of shards that stay open.

    Raises:
        ValueError: the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise ValueError(
            f"{files} shards stay open, but the limit on open files is {hard}: raise `ulimit -n`"
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
