"""Small prepared sets of made-up clips.

Frame f of clip c is one flat colour, (f, c, 128); sample i of its sound is i modulo 30,000.
"""

from pathlib import Path

import numpy as np
import simplejpeg
from array_record.python.array_record_module import ArrayRecordWriter

from data_pipeline.format import records
from data_pipeline.format.prepared_set import AUDIO, DESCRIPTION, VIDEO, PreparedSet, Shard, shard_file

FPS, SAMPLE_RATE = 25, 16_000


def frame(clip: int, index: int, size: int) -> np.ndarray:
    return np.full((size, size, 3), (index, clip, 128), np.uint8)


def sound(n_frames: int) -> np.ndarray:
    return (np.arange(n_frames * SAMPLE_RATE // FPS) % 30_000).astype(np.int16)


def write_set(
    root: Path,
    n_frames: list[int],
    clips_a_shard: int = 4,
    size: int = 16,
    silent: tuple[int, ...] = (),
    scrambled: tuple[int, ...] = (),
    name: str = "clip",
    noisy: bool = False,
) -> Path:
    """Write a set with one clip for each number of frames.

    The clips in `silent` have 0.04 s of sound. The clips in `scrambled` have frames that are no JPEGs. In a
    `noisy` set every clip is noise instead of flat colours and a ramp: patches of one colour have hardly any
    deviation to normalise by.
    """
    root.mkdir(parents=True, exist_ok=True)
    groups = [range(i, min(i + clips_a_shard, len(n_frames))) for i in range(0, len(n_frames), clips_a_shard)]
    shards = []
    for index, clips in enumerate(groups):
        files = {kind: shard_file(kind, "dev", index, len(groups)) for kind in (VIDEO, AUDIO)}
        writers = {}
        for kind, file in files.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            writers[kind] = ArrayRecordWriter(str(root / file), records.ARRAY_RECORD_OPTIONS)
        for clip in clips:
            pictures = [frame(clip, index, size) for index in range(n_frames[clip])]
            samples = sound(1 if clip in silent else n_frames[clip])
            if noisy:
                rng = np.random.default_rng(clip)
                pictures = [rng.integers(0, 256, picture.shape, np.uint8) for picture in pictures]
                samples = rng.integers(-9_000, 9_000, samples.shape, np.int16)
            jpegs = [encode(picture) for picture in pictures]
            if clip in scrambled:
                jpegs = [jpeg[::-1] for jpeg in jpegs]
            write_clip(writers, f"{name}/{clip}", jpegs, samples, size)
        for writer in writers.values():
            writer.close()
        shards.append(Shard(files[VIDEO], files[AUDIO], len(clips)))
    about = PreparedSet(
        split="dev",
        n_clips=len(n_frames),
        n_frames=sum(n_frames),
        n_samples=sum(n_frames) * SAMPLE_RATE // FPS,
        fps=FPS,
        sample_rate=SAMPLE_RATE,
        height=size,
        width=size,
        stride=records.STRIDE,
        n_bytes=0,
        n_resampled=0,
        rejected={},
        fingerprint="made up",
        shards=tuple(shards),
    )
    (root / DESCRIPTION).write_text(about.to_json())
    return root


def encode(pixels: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(pixels, quality=95)


def write_clip(writers: dict, name: str, jpegs: list[bytes], samples: np.ndarray, size: int) -> None:
    video = {"height": size, "width": size, "fps": FPS, "n_frames": len(jpegs), "stride": records.STRIDE}
    for phase in range(records.STRIDE):
        record = records.encode_video(name, jpegs[phase :: records.STRIDE], phase=phase, **video)
        writers[VIDEO].write(record)
    record = records.encode_audio(name, samples, n_frames=len(jpegs), fps=FPS, sample_rate=SAMPLE_RATE)
    writers[AUDIO].write(record)
