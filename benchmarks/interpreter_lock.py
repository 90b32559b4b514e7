"""How long reading a sample holds the interpreter's lock, and the rate at which this stops threads.

    python -m benchmarks.interpreter_lock [--clips=40] [--rounds=5] [--json=FILE]

Threads of one process read at most 1 / (seconds for which a sample holds the lock) samples a second. This
process observes another one that reads, without disturbing it: at random moments, thousands of times a
second, it looks at the lock in the memory of the reading process (Linux, `/proc/PID/mem`). The place of the
lock is found by experiment: it is held during a loop in Python and free during a sleep.

Two prepared sets are read by the input pipeline. Frames of 160 × 160 give the figure that is wanted. Frames
of 16 × 16 take almost no time to decode, so that two cores suffice to keep the lock busy: the rate at which
more threads stop helping is compared with the rate that the observed time predicts.
"""

import ctypes
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from etils import epath

from data_pipeline.preparation.builder import prepare
from data_pipeline.preparation.plan import Options, Plan
from data_pipeline.preparation.shard_writer import ShardSpec, write_shard
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from data_pipeline.synthetic import write_voxceleb2
from launch import command
from tests.support.set_fixtures import write_set

FLAGS = flags.FLAGS

BATCH = 32
CLIP_SECONDS = 8.0
TINY = 16  # pixels
SAMPLES = 640  # in a round, of large frames
TINY_SAMPLES = 6_400
THREADS = (1, 2, 4)
WANTED = 8_000  # samples a second, of a host with eight fast accelerators
EXPERIMENTS, EXPERIMENT_SECONDS = 4, 0.2
LOOKS_AT_A_TIME, LONGEST_PAUSE = 16, 2e-4  # seconds between two looks


# --- The process that reads ---------------------------------------------------------------------------------


def serve(connection: Connection) -> None:
    """Send the address of the interpreter's state, then do what messages say until one is empty.

    Before each piece of work the process sends None, and after it the result.
    """
    connection.send(ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime")))
    work = {"compute": compute, "sleep": time.sleep}
    while message := connection.recv():
        name, argument = message
        if name == "read":
            connection.send(read(connection, *argument))
        else:
            connection.send(None)
            connection.send(work[name](argument))


def compute(seconds: float) -> None:
    """Hold the lock."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def read(connection: Connection, config: PipelineConfig, samples: int) -> tuple[float, float]:
    """Read samples once the pipeline runs; return elapsed time and processor time in seconds."""
    with Pipeline(config).batches() as stream:
        for _ in range(2 * config.prefetch + 2):
            next(stream)
        connection.send(None)
        begun, processor = time.perf_counter(), time.process_time()
        for _ in range(samples // config.batch):
            next(stream)
        return time.perf_counter() - begun, time.process_time() - processor


# --- The process that observes ------------------------------------------------------------------------------


class Reading(NamedTuple):
    """Figures of one round; times in seconds."""

    rate: float
    locked: float
    processor: float


class Observed:
    """A process that reads, with its lock in sight.

    Raises:
        RuntimeError: the lock was not found.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other,), daemon=True)
        self._process.start()
        self._address = self._connection.recv()
        self._memory = os.open(f"/proc/{self._process.pid}/mem", os.O_RDONLY)
        self._address += 4 * self._lock()

    def _lock(self) -> int:
        """Index of the lock among the int32 of the interpreter's state: 1 if held, otherwise 0."""
        size = self._mapped_bytes()
        possible = np.ones(size // 4, bool)
        for number in range(2 * EXPERIMENTS):
            name, value = (("compute", 1), ("sleep", 0))[number % 2]
            self._begin(name, EXPERIMENT_SECONDS)
            while not self._connection.poll(EXPERIMENT_SECONDS / 50):
                state = np.frombuffer(os.pread(self._memory, size, self._address), np.int32)
                possible &= state == value
            self._connection.recv()
        found = np.flatnonzero(possible)
        if len(found) != 1:
            raise RuntimeError(f"{len(found)} places behave like the interpreter's lock: this needs CPython")
        return int(found[0])

    def _mapped_bytes(self) -> int:
        """Bytes from the interpreter's state to the end of its mapping."""
        for line in Path(f"/proc/{self._process.pid}/maps").read_text(encoding="utf-8").splitlines():
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            if begin <= self._address < end:
                return (end - self._address) // 4 * 4
        raise RuntimeError("the interpreter's state is in no mapping of its process")

    def _begin(self, *message: Any) -> None:
        self._connection.send(message)
        self._connection.recv()

    def read(self, data: Path, threads: int, samples: int) -> Reading:
        """Let the process read, and look at the lock meanwhile."""
        config = PipelineConfig(data=(str(data),), batch=BATCH, threads=threads)
        share, (elapsed, processor) = self.watch("read", (config, samples))
        return Reading(samples / elapsed, share * elapsed / samples, processor / samples)

    def watch(self, name: str, argument: Any) -> tuple[float, Any]:
        """Let the process work; return the share of looks at which the lock was held, and the result."""
        self._begin(name, argument)
        looks = held = 0
        while not self._connection.poll():
            for _ in range(LOOKS_AT_A_TIME):
                held += os.pread(self._memory, 4, self._address) != b"\0\0\0\0"
                looks += 1
                time.sleep(random.uniform(0, LONGEST_PAUSE))
        return held / looks, self._connection.recv()

    def close(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join()
        os.close(self._memory)


def measure(data: Path, tiny: Path, rounds: int) -> dict[str, Any]:
    """Measure both sets, in rounds.

    Args:
        data: the set of frames of 160 × 160.
        tiny: the set of tiny frames.
        rounds: to take medians over.
    """
    readings: dict[tuple[Path, int], list[Reading]] = {}
    observed = Observed()
    for _ in range(rounds):
        readings.setdefault((data, 1), []).append(observed.read(data, 1, SAMPLES))
        for threads in THREADS:
            readings.setdefault((tiny, threads), []).append(observed.read(tiny, threads, TINY_SAMPLES))
    observed.close()
    medians = {key: Reading(*map(statistics.median, zip(*of_key))) for key, of_key in readings.items()}
    for (root, threads), of_key in readings.items():
        median = medians[root, threads]
        locked = ", ".join(f"{1e3 * reading.locked:.3f}" for reading in of_key)
        print(f"frames of {root.name} pixels, {threads} threads: {median.rate:,.0f} samples/s")
        print(f"  processor time {1e3 * median.processor:.3f} ms a sample")
        print(f"  lock held for  {1e3 * median.locked:.3f} ms a sample ({locked})")
    whole = medians[data, 1]
    return {
        "ms_a_sample": whole.processor * 1e3,
        "locked_ms_a_sample": whole.locked * 1e3,
        "most_samples_a_second": 1 / whole.locked,
        "cores_at_most": whole.processor / whole.locked,
        "share_of_wanted": 1 / whole.locked / WANTED,
        "tiny_predicted": 1 / medians[tiny, 1].locked,
        "tiny_reached": max(medians[tiny, threads].rate for threads in THREADS),
    }


def _write_shards(specs: list[ShardSpec], plan: Plan) -> None:
    for spec in specs:
        write_shard(spec)


def main(argv: list[str]) -> int:
    """Makes both sets, measures, prints and writes the figures; returns the exit code."""
    with tempfile.TemporaryDirectory() as name:
        corpus, data, tiny = (Path(name) / part for part in ("corpus", "160", "16"))
        # One of the six speakers is in the test split.
        write_voxceleb2(corpus, clips=FLAGS.clips * 6 // 5, speakers=6, seconds=(CLIP_SECONDS, CLIP_SECONDS))
        prepare(epath.Path(corpus), epath.Path(data), Options(), _write_shards)
        write_set(tiny, [round(25 * CLIP_SECONDS)] * FLAGS.clips, clips_a_shard=8, size=TINY)
        figures = measure(data, tiny, FLAGS.rounds)
    for figure, value in figures.items():
        print(f"{figure:28}{value:14,.3f}")
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_integer("clips", 40, "Clips of each set.", lower_bound=BATCH)
    flags.DEFINE_integer("rounds", 5, "Rounds to take medians over.", lower_bound=1)
    flags.DEFINE_string("json", None, "File to write the figures to.")


if __name__ == "__main__":
    command.run("interpreter_lock", define_flags, main)
