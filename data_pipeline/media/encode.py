"""Writes clips as media files: H.264 in mp4 or flv, AAC in m4a, 16-bit PCM in wav (PyAV and ``wave``).

Every encoder runs on one thread. So the bytes of a file depend on its input and on the FFmpeg build, but not
on the number of cores. To use all cores, encode in several processes.
"""

import wave
from fractions import Fraction
from os import PathLike

import av
import numpy as np
from av.video.reformatter import VideoReformatter

# The macroblock-tree rate control of x264 reads uninitialised memory, so that a clip encoded twice gives
# different bytes (x264 core 165 in av 18.1). Without this option a test in tests/data_pipeline/media fails.
X264_DETERMINISTIC = {"mbtree": "0"}
AAC_BIT_RATE = 64_000  # bits a second, mono; hardly audible loss at 16 kHz


def write_mp4(
    path: str | PathLike[str],
    frames: np.ndarray,
    fps: int | Fraction = 25,
    crf: float = 23,
    preset: str = "veryfast",
    samples: np.ndarray | None = None,
    rate: int = 16_000,
) -> None:
    """Writes frames as H.264 (yuv420p, x264's default GOP), with an AAC mono track if sound is given.

    Args:
        path: where to write; an existing file is replaced. A name in ``.flv`` gets a Flash container, which
            CREMA-D uses; any other an mp4.
        frames: uint8 RGB [T, H, W, 3], T ≥ 1, H and W even.
        fps: frames a second.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's speed preset, "ultrafast" to "placebo".
        samples: mono sound for the same file, as in `write_m4a`; None writes no audio stream.
        rate: samples a second of ``samples``, Hz.

    Raises:
        ValueError: if frames or samples do not have the shape or type above.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"{path}: frames must be uint8 [T, H, W, 3], got {frames.dtype} {frames.shape}")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"{path}: H.264 yuv420p needs even frame sides, got {height} x {width}")
    pcm = None if samples is None else to_int16(samples, path)

    options = {"crf": str(crf), "preset": preset, **X264_DETERMINISTIC}
    container_format = "flv" if str(path).endswith(".flv") else "mp4"
    with av.open(str(path), "w", format=container_format) as container:
        video = container.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.thread_count = 1
        audio = None if pcm is None else _add_aac(container, rate)
        to_yuv = VideoReformatter()  # one for all frames: to set up a conversion costs more than to convert
        for rgb in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            container.mux(video.encode(to_yuv.reformat(picture, format="yuv420p", threads=1)))
        container.mux(video.encode(None))
        if audio is not None and pcm is not None:
            _encode_sound(container, audio, pcm)


def write_m4a(path: str | PathLike[str], samples: np.ndarray, rate: int = 16_000) -> None:
    """Writes mono sound as AAC in an m4a file.

    Args:
        path: where to write; an existing file is replaced.
        samples: [n] int16, or floating point in [−1, 1] (clipped to it).
        rate: samples a second, Hz; one that AAC knows (8,000 … 48,000).

    Raises:
        ValueError: if samples are not one-dimensional int16 or floating point.
    """
    pcm = to_int16(samples, path)
    with av.open(str(path), "w", format="ipod") as container:
        _encode_sound(container, _add_aac(container, rate), pcm)


def write_wav(path: str | PathLike[str], samples: np.ndarray, rate: int = 16_000) -> None:
    """Writes mono sound as 16-bit PCM; arguments and errors as `write_m4a`, any rate."""
    pcm = to_int16(samples, path)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.astype("<i2").tobytes())


def to_int16(samples: np.ndarray, name: str | PathLike[str] = "samples") -> np.ndarray:
    """Converts mono sound to int16 [n]: floats in [−1, 1] are clipped, scaled by 32,767 and rounded.

    Args:
        samples: [n] int16 or floating point.
        name: name of the sound in an error message.

    Raises:
        ValueError: if samples are not one-dimensional int16 or finite floating point.
    """
    if samples.ndim == 1 and samples.dtype == np.int16:
        return samples
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        what = f"{samples.dtype} {samples.shape}"
        raise ValueError(f"{name}: sound must be one-dimensional int16 or finite float, got {what}")
    return np.rint(np.clip(samples, -1, 1) * 32_767).astype(np.int16)


def _add_aac(container: av.container.OutputContainer, rate: int) -> av.AudioStream:
    stream = container.add_stream("aac", rate=rate, layout="mono")
    stream.bit_rate = AAC_BIT_RATE
    stream.codec_context.thread_count = 1
    return stream


def _encode_sound(container: av.container.OutputContainer, stream: av.AudioStream, pcm: np.ndarray) -> None:
    """Encodes int16 [n] to a stream and flushes it; without samples the stream has no packets."""
    container.start_encoding()  # writes the header, also if no packet follows
    if len(pcm):
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = stream.rate
        frame.pts, frame.time_base = 0, Fraction(1, stream.rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
