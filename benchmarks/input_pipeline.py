"""Speed of the input pipeline, compared with plain JPEG decoding and with decoding video files.

    python -m benchmarks.input_pipeline [--clips=40] [--rounds=5] [--json=FILE]

A sample is 16 frames at stride 4 and the 2.6 s of sound that belong to them. In each round, three ways to the
same samples are measured in processor time:

* the input pipeline: prepared set → Grain → uint8 batches, two threads;
* a lower bound: the JPEGs of those frames, already in memory, decoded into one reused buffer;
* the files from which the set was prepared: seek to the last keyframe before the window (H.264, default GOP,
  veryfast, crf 23), decode to its end, convert and crop the 16 frames, decode the sound (AAC).

Ratios are medians over rounds. All files are in the page cache, so the figures show the cost to the
processor. At the end, threads of one process are compared with worker processes, in elapsed time too.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import simplejpeg
from absl import flags
from av.video.reformatter import VideoReformatter

from benchmarks.reading import BATCH, SECONDS, define_flags, make_set, write_figures
from data_pipeline.format import records
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.host_batch import HostBatch
from data_pipeline.media import decode as media
from data_pipeline.reading.pipeline import BatchStream, Pipeline, PipelineConfig
from data_pipeline.reading.requests import ClipRequest
from launch import command

FLAGS = flags.FLAGS

STEPS = 10  # batches a round
PREROLL = 4 * 1_024  # samples of AAC to decode before the wanted ones
CROP = media.Crop()
SAMPLING = ClipSampling()


class Window:
    """One sample, with what each of the three ways needs to produce it."""

    def __init__(self, pipeline: Pipeline, request: ClipRequest, corpus: Path) -> None:
        clips = pipeline.source.sets[0]
        sound = records.parse_audio(clips.audio[request.example])
        start = SAMPLING.start(request.draw, sound.n_frames)
        phase = start % records.STRIDE
        video = records.parse_video(clips.video[records.STRIDE * request.example + phase])
        self.indices = SAMPLING.frame_indices(start, sound.n_frames)
        self.span = SAMPLING.audio_span(start, self.indices[-1], sound.n_frames, sound.fps, sound.sample_rate)
        self.jpegs = [bytes(video.jpeg((index - phase) // records.STRIDE)) for index in self.indices]
        self.mp4 = corpus / "dev" / "mp4" / f"{sound.clip}.mp4"
        self.m4a = corpus / "dev" / "aac" / f"{sound.clip}.m4a"


def from_jpegs(window: Window, frames: np.ndarray) -> None:
    """Decodes the window's frames into `frames`."""
    for jpeg, frame in zip(window.jpegs, frames):
        simplejpeg.decode_jpeg(jpeg, buffer=frame)


def from_files(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Decodes the window's frames, uint8[16, 160, 160, 3], and sound, int16, from the files."""
    return _frames_from_file(window), _sound_from_file(window)


def _frames_from_file(window: Window) -> np.ndarray:
    wanted = set(window.indices)
    with av.open(str(window.mp4)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        unit = stream.time_base
        assert unit is not None
        container.seek(int(window.indices[0] / media.FPS / unit), stream=stream)
        frames, to_rgb = [], VideoReformatter()
        for frame in container.decode(stream):
            assert frame.pts is not None
            index = round(float(frame.pts * unit) * media.FPS)
            if index in wanted:
                rgb = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
                frames.append(rgb[CROP.top : CROP.top + CROP.height, CROP.left : CROP.left + CROP.width])
            if index >= window.indices[-1]:
                break
    return np.stack(frames)


def _sound_from_file(window: Window) -> np.ndarray:
    first, count = window.span
    with av.open(str(window.m4a)) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        unit = stream.time_base
        assert unit is not None
        # AAC blocks overlap: to decode a sample exactly, the decoder needs the blocks before it.
        early = max(first - PREROLL, 0)
        container.seek(int(early / media.SAMPLE_RATE / unit), stream=stream)
        to_int16 = av.AudioResampler(format="s16", layout="mono", rate=media.SAMPLE_RATE)
        pieces: list[np.ndarray] = []
        begin: int | None = None
        have = 0
        for frame in container.decode(stream):
            assert frame.pts is not None
            if begin is None:
                begin = round(float(frame.pts * unit) * media.SAMPLE_RATE)
            pieces += [part.to_ndarray()[0] for part in to_int16.resample(frame)]
            have += frame.samples
            if begin + have >= first + count:
                break
    assert begin is not None
    return np.concatenate(pieces)[first - begin :][:count]


def check(windows: list[Window], batch: HostBatch[np.ndarray]) -> None:
    """Checks that the files and the pipeline give the same samples."""
    for window, frames, audio, samples in zip(windows, batch["frames"], batch["audio"], batch["samples"]):
        decoded, sound = from_files(window)
        difference = np.abs(decoded.astype(int) - frames).mean()
        if decoded.shape != frames.shape or difference > 3:
            raise AssertionError(f"{window.mp4}: frames differ by {difference:.2f} grey levels on average")
        # The decoder fills noisy bands of a block with random numbers that depend on where decoding began.
        if len(sound) != samples or np.mean(sound != audio[:samples]) > 0.05:
            raise AssertionError(f"{window.m4a}: the sound is not that of the batch")


def thread_seconds(work: Callable[[], object]) -> float:
    """Processor time of a call in seconds, in this thread only."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def idle_process_seconds() -> float:
    """Processor time of the process so far in seconds, taken once its threads have read ahead and wait."""
    while True:
        before = time.process_time()
        time.sleep(0.1)
        after = time.process_time()
        if after - before < 1e-3:
            return after


def pipeline_seconds(stream: BatchStream, steps: int) -> float:
    """Processor time of `steps` batches in seconds, from idle to idle: reading ahead counts exactly once."""
    begun = idle_process_seconds()
    for _ in range(steps):
        next(stream)
    return idle_process_seconds() - begun


def measure(pipeline: Pipeline, corpus: Path, rounds: int) -> dict[str, list[float]]:
    """Measures the three ways.

    Args:
        pipeline: over the prepared set.
        corpus: directory of the files from which the set was prepared.
        rounds: how often to measure.

    Returns:
        For each way the samples a second of processor time, in each round.
    """
    order = pipeline.order()
    windows = [Window(pipeline, order[position], corpus) for position in range(STEPS * BATCH)]
    buffer = np.empty((SAMPLING.frames, CROP.height, CROP.width, 3), np.uint8)
    rates: dict[str, list[float]] = {"pipeline": [], "jpeg": [], "mp4": []}
    with pipeline.batches() as stream:
        check(windows[:BATCH], next(stream))
        pipeline_seconds(stream, STEPS)  # warms up: opens the files and touches the memory
        for number in range(rounds):
            some = windows[number % STEPS * BATCH :][:BATCH]
            rates["pipeline"].append(STEPS * BATCH / pipeline_seconds(stream, STEPS))

            def decode_jpegs() -> None:
                for window in windows:
                    from_jpegs(window, buffer)

            def decode_files(some: list[Window] = some) -> None:
                for window in some:
                    from_files(window)

            rates["jpeg"].append(len(windows) / thread_seconds(decode_jpegs))
            rates["mp4"].append(len(some) / thread_seconds(decode_files))
    kilobytes = np.mean([len(jpeg) for window in windows for jpeg in window.jpegs]) / 1e3
    print(f"{len(pipeline.source)} clips of {SECONDS:g} s, {kilobytes:.1f} kB a frame; samples a CPU-second:")
    for way, figures in rates.items():
        print(f"  {way:10}{statistics.median(figures):8.1f}   (", *(f"{f:.1f}" for f in figures), ")")
    return rates


def compare_workers(data: str, rounds: int) -> None:
    """Prints what a sample costs with threads and with worker processes: medians, and all rounds.

    Args:
        data: directory of the prepared set.
        rounds: how often to measure.
    """
    ways = (1, 0), (2, 0), (1, 2)
    figures: dict[tuple[int, int], list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for threads, workers in ways:
            config = PipelineConfig(data=(data,), batch=BATCH, threads=threads, workers=workers)
            figures[threads, workers].append(cost_and_rate(config))
    for (threads, workers), pairs in figures.items():
        costs, rates = zip(*pairs)
        print(f"{threads} threads, {workers} workers:")
        print(f"  {statistics.median(costs):8.2f} CPU-ms a sample   (", *(f"{c:.2f}" for c in costs), ")")
        print(f"  {statistics.median(rates):8.0f} samples a second   (", *(f"{r:.0f}" for r in rates), ")")


def cost_and_rate(config: PipelineConfig) -> tuple[float, float]:
    """Processor time of a sample in ms, and samples a second, both without the start of the pipeline."""
    cpu, wall = [], []
    for steps in (STEPS, 6 * STEPS):
        before = sum(os.times()[:4])
        with Pipeline(config).batches() as stream:
            next(stream)
            begun = time.monotonic()
            for _ in range(steps):
                next(stream)
            wall.append(time.monotonic() - begun)
        cpu.append(sum(os.times()[:4]) - before)  # the time of a worker is added when it ends
    samples = 5 * STEPS * BATCH
    return 1e3 * (cpu[1] - cpu[0]) / samples, samples / (wall[1] - wall[0])


def main(argv: list[str]) -> int:
    """Makes and prepares clips, measures, prints and writes the figures; returns the exit code."""
    with tempfile.TemporaryDirectory() as name:
        corpus, prepared, about = make_set(Path(name))
        pipeline = Pipeline(PipelineConfig(data=(str(prepared),), batch=BATCH, threads=2))
        rates = measure(pipeline, corpus, FLAGS.rounds)
        compare_workers(str(prepared), FLAGS.rounds)
    speed = statistics.median(rates["pipeline"])
    figures = {
        "samples_per_cpu_second": speed,
        "ratio_to_jpeg": statistics.median(np.divide(rates["pipeline"], rates["jpeg"]).tolist()),
        "ratio_to_mp4": statistics.median(np.divide(rates["pipeline"], rates["mp4"]).tolist()),
        "bytes_per_8s_clip": about.n_bytes / about.n_clips,
        "cores_for_4000_per_second": 4_000 / speed,
    }
    for figure, value in figures.items():
        print(f"{figure:28}{value:14,.2f}")
    write_figures(figures)
    return 0


if __name__ == "__main__":
    command.run("input_pipeline", define_flags, main)
