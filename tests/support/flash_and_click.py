"""Video files of any kind in which a flash is seen and a click is heard at one moment."""

from fractions import Fraction

import av
import numpy as np

from data_pipeline.media.video_stream import VideoStream
from data_pipeline.media.whole_sound import read_sound

SECONDS = 2.0
MOMENT = 1.0
"""When the flash and the click begin, in s from the first frame."""
LENGTH = 0.1
"""Duration of the flash in s; the click is half as long."""
MARK = (200, 30, 30)
"""Colour of the top left corner, which shows that a frame is upright."""


def scene(height, width, flash):
    """A grey frame with a mark in its top left corner; its middle is white in the flash."""
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[: height // 4, : width // 4] = MARK
    if flash:
        picture[height // 3 :, width // 3 :] = 255
    return picture


def frame_times(fps):
    """Times of frames, in s, at an even rate."""
    return [Fraction(index) / fps for index in range(round(SECONDS * fps))]


def click(rate, channels):
    """Sound with the click, float32 [channels, n]: silence, and a tone for `LENGTH` / 2."""
    time = np.arange(round(SECONDS * rate)) / rate
    sounds = (time >= MOMENT) & (time < MOMENT + LENGTH / 2)
    return np.tile(0.5 * np.sin(2 * np.pi * 1_000 * time) * sounds, (channels, 1)).astype(np.float32)


def write(
    path,
    video="libx264",
    audio="aac",
    times=None,
    size=(96, 128),
    pixels="yuv420p",
    rate=48_000,
    layout="mono",
    late=0.0,
    turned=0,
    options=None,
):
    """Write a film.

    Args:
        path: its ending says the container.
        video: codec of the picture; None writes none.
        audio: codec of the sound; None writes none.
        times: of the frames in s; by default 25 a second.
        size: (height, width) of the upright frames in pixels.
        pixels: pixel format.
        rate: samples a second.
        layout: of the channels.
        late: how much later than the picture the sound's track begins, in s. Less of it comes before the
            click, or more, if the sound begins earlier.
        turned: degrees by which a player must turn the coded picture anticlockwise.
        options: of the encoder of the picture.
    """
    times = frame_times(25) if times is None else times
    with av.open(str(path), "w") as container:
        pictures = video and _add_pictures(container, video, times, size, pixels, turned, options or {})
        sounds = audio and container.add_stream(audio, rate=rate, layout=layout, bit_rate=128_000)
        if video:
            _mux_pictures(container, pictures, times, size, pixels, turned, max(-late, 0))
        if audio:
            _mux_sound(container, sounds, rate, layout, late)


def _add_pictures(container, codec, times, size, pixels, turned, options):
    even = len(set(np.diff([float(time) for time in times]).round(6))) == 1
    fps = round(1 / (times[1] - times[0])) if even else 25
    stream = container.add_stream(codec, rate=fps, options=options)
    coded = size[::-1] if turned % 180 else size
    stream.height, stream.width = coded
    stream.pix_fmt = pixels
    stream.codec_context.time_base = Fraction(1, fps) if even else Fraction(1, 1_000)
    if turned:
        stream.set_display_rotation(turned)
    return stream


def _mux_pictures(container, stream, times, size, pixels, turned, late):
    tick = stream.codec_context.time_base
    for time in times:
        picture = np.rot90(scene(*size, MOMENT <= time < MOMENT + LENGTH), -turned // 90)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format=pixels)
        frame.pts, frame.time_base = round((time + Fraction(late).limit_denominator(1_000)) / tick), tick
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _mux_sound(container, stream, rate, layout, late):
    samples = click(rate, av.AudioLayout(layout).nb_channels)
    begin = round(abs(late) * rate)
    if late > 0:
        samples, time = samples[:, begin:], begin
    else:
        samples, time = np.concatenate([np.zeros_like(samples[:, :begin]), samples], axis=1), 0
    encoder = stream.codec_context
    resampler = av.AudioResampler(encoder.format, layout, rate, frame_size=encoder.frame_size or 1_024)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, time, Fraction(1, rate)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        if part is not None:
            container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def flash_and_click(path, notes=None):
    """Read a film again: seconds from the first frame to the flash and to the click, and the frames."""
    video = VideoStream(path)
    frames = list(video.frames(notes=notes))
    assert [frame.number for frame in frames] == list(range(len(frames)))
    height, width = video.size
    middle = [frame.picture[height // 2 :, width // 2 :].mean() for frame in frames]
    flash = int(np.argmax(np.array(middle) > 150)) / 25
    sound = read_sound(path, video.start, notes)
    heard = None if sound is None else int(np.argmax(np.abs(sound.astype(int)) > 4_000)) / 16_000
    return flash, heard, [frame.picture for frame in frames]


def is_upright(picture, size):
    """Whether a frame has the size and the mark in the top left corner, and nowhere else."""
    height, width = picture.shape[:2]
    corners = (
        picture[: height // 8, : width // 8],
        picture[-(height // 8) :, : width // 8],
        picture[: height // 8, -(width // 8) :],
        picture[-(height // 8) :, -(width // 8) :],
    )
    red = [corner[..., 0].mean() - corner[..., 2].mean() > 60 for corner in corners]
    return picture.shape == (*size, 3) and red == [True, False, False, False]
