"""How fast samples reach a batch, against bare JPEG decoding and against decoding video.

    python -m benchmarks.input_pipeline [--clips=40] [--rounds=5] [--json=FILE]

A sample is 16 frames at stride 4 and its 2.6 s of sound. Three ways to the same samples, measured in turn,
round by round, in processor time:

* the input pipeline: prepared set → Grain → uint8 batches, two threads;
* the JPEGs of those frames, lying in memory, decoded into one and the same buffer: nothing can be faster;
* the files that the set was prepared from: seek to the last keyframe before the window (H.264, default GOP,
  veryfast, crf 23), decode to its end, convert and crop the 16 frames, decode its sound (AAC).

Ratios are medians over rounds. All files are in the page cache: this is what reading costs the processor.
At the end, threads of one process are compared with worker processes, by the clock as well.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import simplejpeg
from absl import app, flags
from av.video.reformatter import VideoReformatter
from etils import epath

from data_pipeline.corpora import voxceleb2
from data_pipeline.format import records
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.host_batch import HostBatch
from data_pipeline.media import decode as media
from data_pipeline.preparation.builder import prepare
from data_pipeline.preparation.plan import Options
from data_pipeline.preparation.shard_writer import write_shard
from data_pipeline.reading.pipeline import BatchStream, Pipeline, PipelineConfig
from data_pipeline.reading.requests import ClipRequest
from data_pipeline.synthetic import write_voxceleb2

SECONDS = 8.0
BATCH = 32
STEPS = 10  # batches a round
PREROLL = 4 * 1_024  # samples of AAC to decode before those wanted
CROP = media.Crop()
SAMPLING = ClipSampling()


class Window:
    """One sample, with all that each of the ways needs."""

    def __init__(self, pipeline: Pipeline, request: ClipRequest, corpus: Path):
        clips = pipeline.source.sets[0]
        sound = records.parse_audio(clips.audio[request.example])
        start = SAMPLING.start(request.draw, sound.n_frames)
        phase = start % records.STRIDE
        video = records.parse_video(clips.video[records.STRIDE * request.example + phase])
        self.indices = SAMPLING.frame_indices(start, sound.n_frames)
        self.span = SAMPLING.audio_span(start, self.indices[-1], sound.n_frames, sound.fps, sound.sample_rate)
        self.jpegs = [bytes(video.jpeg((index - phase) // records.STRIDE)) for index in self.indices]
        self.mp4 = corpus / voxceleb2.video_file(epath.Path(), "dev", sound.clip)
        self.m4a = corpus / "dev" / "aac" / f"{sound.clip}.m4a"


def from_jpegs(window: Window, frames: np.ndarray) -> None:
    """Decodes the window's frames into `frames`."""
    for jpeg, frame in zip(window.jpegs, frames):
        simplejpeg.decode_jpeg(jpeg, buffer=frame)


def from_files(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Decodes the window's frames, uint8[16, 160, 160, 3], and sound, int16, from the files."""
    wanted = set(window.indices)
    with av.open(str(window.mp4)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(window.indices[0] / media.FPS / stream.time_base), stream=stream)
        frames, to_rgb = [], VideoReformatter()
        for frame in container.decode(stream):
            index = round(float(frame.pts * stream.time_base) * media.FPS)
            if index in wanted:
                rgb = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
                frames.append(rgb[CROP.top : CROP.top + CROP.height, CROP.left : CROP.left + CROP.width])
            if index >= window.indices[-1]:
                break
    first, count = window.span
    with av.open(str(window.m4a)) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        # AAC blocks overlap: the first right samples need the blocks before them.
        early = max(first - PREROLL, 0)
        container.seek(int(early / media.SAMPLE_RATE / stream.time_base), stream=stream)
        to_int16 = av.AudioResampler(format="s16", layout="mono", rate=media.SAMPLE_RATE)
        pieces, begin, have = [], None, 0
        for frame in container.decode(stream):
            begin = round(float(frame.pts * stream.time_base) * media.SAMPLE_RATE) if begin is None else begin
            pieces += [part.to_ndarray()[0] for part in to_int16.resample(frame)]
            have += frame.samples
            if begin + have >= first + count:
                break
    return np.stack(frames), np.concatenate(pieces)[first - begin :][:count]


def check(windows: list[Window], batch: HostBatch[np.ndarray]) -> None:
    """Makes sure that the ways lead to the same samples."""
    for window, frames, audio, samples in zip(windows, batch["frames"], batch["audio"], batch["samples"]):
        decoded, sound = from_files(window)
        difference = np.abs(decoded.astype(int) - frames).mean()
        if decoded.shape != frames.shape or difference > 3:
            raise AssertionError(f"{window.mp4}: frames differ by {difference:.2f} grey levels on average")
        # The decoder fills noisy bands of a block with random numbers that depend on where it began.
        if len(sound) != samples or np.mean(sound != audio[:samples]) > 0.05:
            raise AssertionError(f"{window.m4a}: the sound is not that of the batch")


def thread_seconds(work: Callable[[], object]) -> float:
    """Processor time of this thread alone."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def idle_process_seconds() -> float:
    """Processor time of the whole process, once its threads have read ahead as far as they may."""
    while True:
        before = time.process_time()
        time.sleep(0.1)
        after = time.process_time()
        if after - before < 1e-3:
            return after


def pipeline_seconds(stream: BatchStream, steps: int) -> float:
    """Processor time of `steps` batches: from idle to idle, so that reading ahead counts exactly once."""
    begun = idle_process_seconds()
    for _ in range(steps):
        next(stream)
    return idle_process_seconds() - begun


def measure(pipeline: Pipeline, corpus: Path, rounds: int) -> dict[str, list[float]]:
    """Samples a second of processor time, each way, in each round."""
    order = pipeline.order()
    windows = [Window(pipeline, order[position], corpus) for position in range(STEPS * BATCH)]
    buffer = np.empty((SAMPLING.frames, CROP.height, CROP.width, 3), np.uint8)
    rates = {"pipeline": [], "jpeg": [], "mp4": []}
    with pipeline.batches() as stream:
        check(windows[:BATCH], next(stream))
        pipeline_seconds(stream, STEPS)  # until then memory is new and files are unopened
        for number in range(rounds):
            some = windows[number % STEPS * BATCH :][:BATCH]
            rates["pipeline"].append(STEPS * BATCH / pipeline_seconds(stream, STEPS))
            seconds = thread_seconds(lambda: [from_jpegs(window, buffer) for window in windows])
            rates["jpeg"].append(len(windows) / seconds)
            seconds = thread_seconds(lambda some=some: [from_files(window) for window in some])
            rates["mp4"].append(len(some) / seconds)
    kilobytes = np.mean([len(jpeg) for window in windows for jpeg in window.jpegs]) / 1e3
    print(f"{len(pipeline.source)} clips of {SECONDS:g} s, {kilobytes:.1f} kB a frame; samples a CPU-second:")
    for way, figures in rates.items():
        print(f"  {way:10}{statistics.median(figures):8.1f}   (", *(f"{f:.1f}" for f in figures), ")")
    return rates


def compare_workers(data: str, rounds: int) -> None:
    """Prints what threads and what worker processes take for a sample: medians, and all rounds."""
    ways = (1, 0), (2, 0), (1, 2)
    figures = {way: [] for way in ways}
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
    """Processor time of a sample in ms, and samples a second, without what starting takes."""
    cpu, wall = [], []
    for steps in (STEPS, 6 * STEPS):
        before = sum(os.times()[:4])
        with Pipeline(config).batches() as stream:
            next(stream)
            begun = time.monotonic()
            for _ in range(steps):
                next(stream)
            wall.append(time.monotonic() - begun)
        cpu.append(sum(os.times()[:4]) - before)  # workers count once they have ended
    samples = 5 * STEPS * BATCH
    return 1e3 * (cpu[1] - cpu[0]) / samples, samples / (wall[1] - wall[0])


def main(argv: list[str]) -> None:
    """Makes and prepares clips, measures, prints, and writes ``--json``."""
    del argv
    with tempfile.TemporaryDirectory() as name:
        corpus, prepared = Path(name) / "corpus", epath.Path(name) / "prepared"
        # The last tenth of the speakers, at least one, is of the test split.
        write_voxceleb2(corpus, clips=FLAGS.clips * 6 // 5, speakers=6, seconds=(SECONDS, SECONDS))
        about = prepare(
            epath.Path(corpus), prepared, Options(), lambda specs, _: [write_shard(spec) for spec in specs]
        )
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
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(figures, indent=1) + "\n")


FLAGS = flags.FLAGS

if __name__ == "__main__":
    flags.DEFINE_integer("clips", 40, "Clips to prepare.", lower_bound=BATCH)
    flags.DEFINE_integer("rounds", 5, "Rounds to take medians over.", lower_bound=1)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)
