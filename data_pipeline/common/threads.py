"""Does a small task for each of many items in threads, and shows progress."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

_MOST = 256  # items that a thread gets at a time: a million single tasks would take a gigabyte
_ROUNDS = 8  # how often a thread gets items at least, if there are enough

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(
    task: Callable[[_Item], _Result], items: Sequence[_Item], threads: int, title: str, unit: str
) -> Iterator[_Result]:
    """Yield the result of each item, in order.

    Args:
        task: waits for files most of the time; the first exception that it raises ends the work.
        items: any number.
        threads: number of threads.
        title: of the progress bar.
        unit: what an item is, for the bar.
    """
    size = max(1, min(_MOST, len(items) // (_ROUNDS * threads)))
    parts = [items[start : start + size] for start in range(0, len(items), size)]

    def do(part: Sequence[_Item]) -> list[_Result]:
        return [task(item) for item in part]

    with ThreadPoolExecutor(threads) as pool, tqdm(desc=title, total=len(items), unit=unit) as bar:
        for results in pool.map(do, parts):
            bar.update(len(results))
            yield from results
