"""How long reading a sample holds the interpreter's lock, and the rate at which this stops threads.

    python -m benchmarks.interpreter_lock [--clips=40] [--rounds=5] [--json=FILE]

Threads of one process read at most 1 / (seconds for which a sample holds the lock) samples a second. These
seconds are found for the input pipeline, frames of 160 × 160 and one thread, in two independent ways:

* *seen*: this process looks at the lock in the memory of another one, which reads: at random moments,
  thousands of times a second, and without disturbing it (Linux, `/proc/PID/mem`). The place of the lock is
  found by experiment: it is held during a loop in Python and free during a sleep;
* *outside the decoder*: the processor time of a sample less that of its calls of the JPEG decoder, which
  needs no lock. This is the most that it can be, since some of the rest needs no lock either.

Neither counts what it costs to hand the lock from thread to thread.
"""

import ctypes
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
import simplejpeg
from absl import flags

from benchmarks.reading import BATCH, define_flags, make_set, write_figures
from data_pipeline.common.cores import usable_cores
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from launch import command

FLAGS = flags.FLAGS

SAMPLES = 640  # in a round
WANTED = 8_000  # samples a second, of a host with eight fast accelerators
EXPERIMENTS, EXPERIMENT_SECONDS = 4, 0.2
AGREEMENT = 0.9  # of looks with what the lock must be
LOOKS_AT_A_TIME, LONGEST_PAUSE = 16, 2e-4  # seconds between two looks


# --- The process that reads ---------------------------------------------------------------------------------


def serve(connection: Connection) -> None:
    """Send the address of the interpreter's state, then do what messages say until one is empty.

    Before each piece of work the process sends None, and after it the result.
    """
    connection.send(ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime")))
    while message := connection.recv():
        name, *arguments = message
        if name == "read":
            connection.send(read(connection, *arguments))
        else:
            connection.send(None)
            connection.send({"compute": compute, "sleep": time.sleep}[name](*arguments))


def compute(seconds: float) -> None:
    """Hold the lock."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


class Reading(NamedTuple):
    """Seconds: elapsed, of all processors, and of the processor in the JPEG decoder (0 if not measured)."""

    elapsed: float
    processor: float
    decoder: float


def read(connection: Connection, config: PipelineConfig, samples: int, time_decoder: bool) -> Reading:
    """Read samples, after sending None when the pipeline runs.

    Args:
        connection: to the process that observes.
        config: of the pipeline.
        samples: how many to read.
        time_decoder: whether to measure the time of the decoder, which itself takes some.
    """
    decode, decoder = simplejpeg.decode_jpeg, 0.0

    def timed(*arguments: Any, **options: Any) -> np.ndarray:
        nonlocal decoder
        begun = time.thread_time()
        frame = decode(*arguments, **options)
        decoder += time.thread_time() - begun
        return frame

    if time_decoder:
        simplejpeg.decode_jpeg = timed
    try:
        with Pipeline(config).batches() as stream:
            for _ in range(2 * config.prefetch + 2):
                next(stream)
            connection.send(None)
            begun, processor, decoder = time.perf_counter(), time.process_time(), 0.0
            for _ in range(samples // config.batch):
                next(stream)
            return Reading(time.perf_counter() - begun, time.process_time() - processor, decoder)
    finally:
        simplejpeg.decode_jpeg = decode


# --- The process that observes ------------------------------------------------------------------------------


class Observed:
    """A process that reads, with its lock in sight. One core is kept for looking.

    Raises:
        RuntimeError: the lock was not found.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other,), daemon=True)
        self._process.start()
        if self._process.pid is None:
            raise RuntimeError("the process that reads did not start")
        *reading, looking = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(self._process.pid, reading)
        os.sched_setaffinity(0, {looking})
        self._address = self._connection.recv()
        self._memory = os.open(f"/proc/{self._process.pid}/mem", os.O_RDONLY)
        self._address += 4 * self._lock()

    def _lock(self) -> int:
        """Index of the lock among the int32 of the interpreter's state: 1 if held, otherwise 0."""
        size = self._mapped_bytes()
        agreed, looks = np.zeros(size // 4, np.int32), 0
        for number in range(2 * EXPERIMENTS):
            name, value = (("compute", 1), ("sleep", 0))[number % 2]
            self._begin(name, EXPERIMENT_SECONDS)
            while not self._connection.poll(EXPERIMENT_SECONDS / 50):
                state = np.frombuffer(os.pread(self._memory, size, self._address), np.int32)
                agreed += state == value
                looks += 1
            self._connection.recv()
        # A look between two pieces of work may see either value, more often on a busy machine.
        found = np.flatnonzero(agreed >= AGREEMENT * looks)
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

    def watch(self, name: str, *arguments: Any) -> tuple[float, Any]:
        """Let the process work; return the share of looks at which the lock was held, and the result."""
        self._begin(name, *arguments)
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


def measure(data: Path, rounds: int) -> dict[str, float]:
    """Measure in both ways, in rounds.

    Args:
        data: a prepared set.
        rounds: to take medians over.
    """
    config = PipelineConfig(data=(str(data),), batch=BATCH, threads=1)
    figures: dict[str, list[float]] = {}
    observed = Observed()
    for _ in range(rounds):
        share, plain = observed.watch("read", config, SAMPLES, False)
        _, timed = observed.watch("read", config, SAMPLES, True)
        # The thread that reads never waits, so its share of the looks is one of its processor time.
        for name, value in {
            "samples_a_second": SAMPLES / plain.elapsed,
            "ms_a_sample": 1e3 * plain.processor / SAMPLES,
            "locked_ms_seen": 1e3 * share * plain.processor / SAMPLES,
            "locked_ms_at_most": 1e3 * (plain.processor - timed.decoder) / SAMPLES,
        }.items():
            figures.setdefault(name, []).append(value)
    observed.close()
    for name, values in figures.items():
        print(f"{name:20}{statistics.median(values):10.3f}   ({', '.join(f'{v:.3f}' for v in values)})")
    return {name: statistics.median(values) for name, values in figures.items()}


def main(argv: list[str]) -> int:
    """Makes and prepares clips, measures, prints and writes the figures; returns the exit code."""
    if usable_cores() < 2:
        raise ValueError("this needs two cores: one that reads and one that looks")
    with tempfile.TemporaryDirectory() as name:
        _, data, _ = make_set(Path(name))
        figures = measure(data, FLAGS.rounds)
    for name in ("locked_ms_seen", "locked_ms_at_most"):
        most = 1e3 / figures[name]
        print(f"by {name}, threads read at most {most:,.0f} samples/s, {most / WANTED:.2f} of {WANTED:,}")
    write_figures(figures)
    return 0


if __name__ == "__main__":
    command.run("interpreter_lock", define_flags, main)
