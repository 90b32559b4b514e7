"""Speed of reading a set that is in a bucket, compared with the same set on a disk.

    python -m benchmarks.staged_set [--clips=40] [--rounds=5] [--json=FILE]

The bucket is a stand-in on loopback, so the time of fetching is that of the client and of the stand-in, which
share the cores of this machine, and no network is measured. In each round the same batches are read in four
ways, two threads each:

* `disk`, `cache`: clips are shuffled over the whole set;
* `disk, windows`, `cache, windows`: clips are shuffled over windows of two pairs of shards, so that shards
  are opened and closed all the time. All are in the cache already.

Ratios are medians over rounds. Needs gcsfs.
"""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks.reading import BATCH, define_flags, make_set, write_figures
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from launch import command
from tests.support.bucket_server import served
from tests.support.bucket_sets import upload

FLAGS = flags.FLAGS

SHARD_MB = 6
WINDOW = 2
STEPS = 20
URL = "gs://benchmark/prepared"


def samples_a_second(config: PipelineConfig) -> float:
    """Samples read in a second of elapsed time, once the first batches have come."""
    with Pipeline(config).batches() as stream:
        for _ in range(config.prefetch + 1):
            next(stream)
        begun = time.monotonic()
        for _ in range(STEPS):
            next(stream)
        return STEPS * BATCH / (time.monotonic() - begun)


def ways(prepared: Path, cache: Path) -> dict[str, PipelineConfig]:
    """Name of each way of reading → its settings.

    Args:
        prepared: directory of the set on the disk.
        cache: directory for the cache.
    """
    found = {}
    for name, window in (("", 0), (", windows", WINDOW)):
        about = PipelineConfig(data=(str(prepared),), batch=BATCH, threads=2, shuffle_window=window)
        found[f"disk{name}"] = about
        found[f"cache{name}"] = dataclasses.replace(about, data=(URL,), cache=str(cache))
    return found


def main(argv: list[str]) -> int:
    """Makes and prepares clips, measures, prints and writes the figures; returns the exit code."""
    with tempfile.TemporaryDirectory() as name, served() as server:
        _, prepared, about = make_set(Path(name), SHARD_MB)
        upload(server, prepared, URL)
        settings = ways(prepared, Path(name, "cache"))
        begun = time.monotonic()
        Pipeline(settings["cache"])
        seconds = time.monotonic() - begun
        rates: dict[str, list[float]] = {way: [] for way in settings}
        for _ in range(FLAGS.rounds):
            for way, config in settings.items():
                rates[way].append(samples_a_second(config))
    print(
        f"{about.n_clips} clips, {about.n_bytes / 1e6:.0f} MB in {len(about.shards)} pairs; samples a second:"
    )
    for way, found in rates.items():
        print(f"  {way:16}{statistics.median(found):8.0f}   (", *(f"{rate:.0f}" for rate in found), ")")
    figures = {
        "first_fetch_seconds": seconds,
        "first_fetch_mb_a_second": about.n_bytes / 1e6 / seconds,
        "cache_to_disk": _ratio(rates["cache"], rates["disk"]),
        "windows_to_disk": _ratio(rates["cache, windows"], rates["disk, windows"]),
    }
    for figure, value in figures.items():
        print(f"{figure:28}{value:14,.2f}")
    write_figures(figures)
    return 0


def _ratio(rates: list[float], others: list[float]) -> float:
    return statistics.median(rate / other for rate, other in zip(rates, others, strict=True))


if __name__ == "__main__":
    command.run("staged_set", define_flags, main)
