"""Recordings in which every frame and every moment of the sound differ, in any container."""

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

SECONDS = 9.0
WITHOUT_NOISE = {"aac": {"aac_pns": "0"}}
"""Options by which an encoder leaves no band to a noise of the decoder's own."""


def write(
    path,
    video="libx264",
    audio="aac",
    times=None,
    fps=25,
    seconds=SECONDS,
    rate=44_100,
    layout="mono",
    options=None,
    audio_options=None,
    size=(48, 64),
):
    """Write a recording.

    Args:
        path: its ending says the container.
        video: codec of the picture; None writes none.
        audio: codec of the sound; None writes none.
        times: of the frames in ms; by default at an even rate.
        fps: that rate.
        seconds: its length, if the rate is even.
        rate: samples a second.
        layout: of the channels.
        options: of the encoder of the picture.
        audio_options: of the encoder of the sound; by default `WITHOUT_NOISE`.
        size: (height, width) of the frames.
    """
    tick = Fraction(1, 1_000) if times is not None else 1 / Fraction(fps)
    times = list(range(round(seconds * fps))) if times is None else times
    audio_options = WITHOUT_NOISE.get(audio, {}) if audio_options is None else audio_options
    with av.open(str(path), "w") as container:
        pictures = video and _picture_track(container, video, fps, tick, options, size)
        sounds = audio and container.add_stream(audio, rate=rate, layout=layout, options=audio_options)
        length = float((times[-1] + 1) * tick) if video else seconds
        heard = _sound_packets(sounds, rate, layout, length) if audio else iter(())
        if pictures:
            to_yuv = VideoReformatter()  # to set up a conversion costs more than to convert
            for number, time in enumerate(times):
                frame = to_yuv.reformat(_frame(number, size), format=pictures.pix_fmt, threads=1)
                frame.pts, frame.time_base = time, tick
                container.mux(pictures.encode(frame))
                for packet in heard:  # as a camera writes them
                    container.mux(packet)
                    if packet.pts * packet.time_base >= time * tick:
                        break
            container.mux(pictures.encode(None))
        container.mux(list(heard))


def _picture_track(container, codec, fps, tick, options, size):
    stream = container.add_stream(codec, rate=fps, options=options or {})
    stream.height, stream.width = size
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.codec_context.time_base = tick
    stream.codec_context.thread_count = 1
    return stream


def _frame(number, size):
    """A frame of stripes that move, on a grey that changes."""
    rows, columns = np.indices(size)
    grey = (3 * number) % 128 + 60 * (((columns + 2 * number) // 8 + rows // 12) % 2)
    return av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, 2).astype(np.uint8), format="rgb24")


def sound(seconds, rate):
    """A voice that rises and falls, and some noise: float32 [n]."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.02, len(time))
    voice = 0.3 * np.sin(2 * np.pi * 300 * time + 20 * np.sin(3 * time)) * (1 + np.sin(17 * time)) / 2
    return (voice + noise).astype(np.float32)


def _sound_packets(stream, rate, layout, seconds):
    """Encode the sound of a recording."""
    n_channels = av.AudioLayout(layout).nb_channels
    samples = sound(seconds, rate) * np.linspace(1, 0.5, n_channels, dtype=np.float32)[:, None]
    encoder = stream.codec_context
    resampler = av.AudioResampler(encoder.format, layout, rate, frame_size=encoder.frame_size or 1_024)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        if part is not None:
            yield from stream.encode(part)
    yield from stream.encode(None)
