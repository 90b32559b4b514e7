"""Media files as people have them: any timestamps, several tracks, odd headers."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg
from etils import epath

from data_pipeline.media.decode import Crop, UnusableClipError, load_clip
from data_pipeline.media.encode import write_mp4, write_wav

SMALL = Crop(top=0, left=8, height=32, width=32)
MS = Fraction(1, 1_000)


def grey_steps(count, height=32, width=48):
    """Frame `i` is grey with value `4 i`, so that a decoded frame tells its number."""
    return np.broadcast_to((np.arange(count) * 4)[:, None, None, None], (count, height, width, 3)).astype(
        np.uint8
    )


def numbers(clip):
    """The numbers of the frames of a clip that `grey_steps` made."""
    return [round(simplejpeg.decode_jpeg(jpeg).mean() / 4) for jpeg in clip.jpegs]


def tone(seconds, rate=16_000):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(files, n_frames=50, seconds=2.0, fps=25, rate=16_000, **kwargs):
    """Write a pair of files."""
    write_mp4(files[0], grey_steps(n_frames), fps=fps, crf=5, **kwargs)
    write_wav(files[1], tone(seconds, rate), rate)


def reason_of(video, audio, crop=SMALL):
    with pytest.raises(UnusableClipError) as caught:
        load_clip(video and epath.Path(video), audio and epath.Path(audio), crop)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def remux(source, target, delay_audio=0.0, delay_video=0.0, late=None, **options):
    """Copy the packets of an mp4 into another file.

    Args:
        source: the mp4 file.
        target: the new file.
        delay_audio: how much later the sound comes, in s.
        delay_video: the same for the picture.
        late: instead of these, gives for a packet how much later it comes, in its ticks.
        **options: of the muxer, such as movflags="faststart" for the index first.
    """
    delays = {"audio": delay_audio, "video": delay_video}
    late = late or (lambda packet: round(delays[packet.stream.type] / packet.time_base))
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        streams = {stream: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                ticks = late(packet)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = streams[packet.stream]
                new.mux(packet)


def add_picture_track(container, pictures, codec="png", setup=lambda stream: None):
    """Add a track for `mux_pictures`; all tracks must be added before the first packet.

    Args:
        container: an mp4 file open for writing.
        pictures: uint8 [height, width, 3 or 4] each, of any sizes.
        codec: "png", without loss, or "mjpeg".
        setup: called with the stream.

    Returns:
        The stream.
    """
    kinds = {3: "rgb24", 4: "rgba"}
    stream = container.add_stream(codec, rate=25)
    stream.height, stream.width = pictures[0].shape[:2]
    stream.pix_fmt = kinds[pictures[0].shape[2]] if codec == "png" else "yuvj420p"
    stream.time_base = MS
    setup(stream)
    return stream


def mux_pictures(container, stream, pictures, times=None):
    """Write pictures, each coded by itself; `times` in ms, in any order, by default 25 a second."""
    times = [40 * index for index in range(len(pictures))] if times is None else times
    codec = stream.codec_context.name
    decoding = [min(times) - len(times) + index for index in range(len(times))]
    in_order = decoding if sorted(times) != list(times) or len(set(times)) < len(times) else times
    for picture, shown, decoded in zip(pictures, times, in_order, strict=True):
        encoder = av.CodecContext.create(codec, "w")
        encoder.height, encoder.width = picture.shape[:2]
        encoder.pix_fmt, encoder.time_base = stream.pix_fmt, MS
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(picture), format={3: "rgb24", 4: "rgba"}[picture.shape[2]]
        )
        for packet in encoder.encode(frame.reformat(format=encoder.pix_fmt)):
            packet.stream, packet.time_base = stream, MS
            packet.pts, packet.dts, packet.duration = shown, decoded, 40
            container.mux(packet)


def write_pictures(path, pictures, times=None, setup=lambda stream: None):
    """Write an mp4 file with one track of pictures; arguments as of the functions above."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = add_picture_track(container, pictures, setup=setup)
        mux_pictures(container, stream, pictures, times)


LAYOUTS = {1: "mono", 2: "stereo"}  # by the number of axes of the samples


def add_sound_track(container, parts, codec="alac", disposition=None):
    """Add a track for `mux_sound`; all tracks must be added before the first packet.

    Args:
        container: an mp4 file open for writing.
        parts: (time in s, float samples [n] or [n, 2], rate in Hz) each.
        codec: "alac", without loss and priming; "ac3", which may change rate and layout midway; or
            "pcm_s16le", in mono, for a mov file.
        disposition: the track's disposition.

    Returns:
        The stream.
    """
    stream = container.add_stream(codec, rate=parts[0][2], layout=LAYOUTS[parts[0][1].ndim])
    stream.format = {"alac": "s16p", "ac3": "fltp", "pcm_s16le": "s16"}[codec]
    if disposition is not None:
        stream.disposition = disposition
    return stream


def mux_sound(container, stream, parts):
    """Write the parts of a track, each coded by itself."""
    codec, sample_format = stream.codec_context.name, stream.format.name
    for time, samples, rate in parts:
        encoder = av.CodecContext.create(codec, "w")
        encoder.sample_rate, encoder.layout = rate, LAYOUTS[samples.ndim]
        encoder.format, encoder.time_base = sample_format, Fraction(1, rate)
        pcm = np.rint(samples * 32_767).astype(np.int16) if codec != "ac3" else samples.astype(np.float32)
        planes = np.ascontiguousarray(np.atleast_2d(pcm.T))
        frame = av.AudioFrame.from_ndarray(planes, format=sample_format, layout=LAYOUTS[samples.ndim])
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for packet in [*encoder.encode(frame), *encoder.encode(None)]:
            at = time + packet.pts * packet.time_base
            packet.stream, packet.time_base = stream, Fraction(1, stream.rate)
            packet.pts = packet.dts = round(at * stream.rate)
            packet.duration = round(packet.duration * Fraction(stream.rate, rate))
            container.mux(packet)


def write_sound(path, parts, codec="alac"):
    """Write an m4a file with one track of sound; arguments as of the functions above."""
    with av.open(str(path), "w", format="mp4") as container:
        mux_sound(container, add_sound_track(container, parts, codec), parts)


def without_length(wav, announced):
    """Make the header of a wav file, bytes, announce `announced` bytes of sound, as one from a pipe does."""
    at = wav.index(b"data") + 4
    return wav[:at] + struct.pack("<I", announced) + wav[at + 4 :]


def with_edits(mp4, edits):
    """Give all tracks of an mp4 file, bytes, another edit list.

    Args:
        mp4: a file whose index comes last.
        edits: (duration in s, beginning in the track in s or None for an empty edit) each.
    """
    top = list(_boxes(mp4))
    assert top[-1][0] == b"moov"
    a_second = _ticks(top[-1][1], b"mvhd")
    moov = b"".join(
        _box(kind, _with_edits(body, edits, a_second)) if kind == b"trak" else _box(kind, body)
        for kind, body in _boxes(top[-1][1])
    )
    return mp4[: len(mp4) - len(top[-1][1]) - 8] + _box(b"moov", moov)


def _with_edits(trak, edits, a_second):
    ticks = _ticks(trak, b"mdhd")
    entries = [
        struct.pack(">IiI", round(length * a_second), -1 if start is None else round(start * ticks), 1 << 16)
        for length, start in edits
    ]
    edit_list = _box(b"edts", _box(b"elst", struct.pack(">II", 0, len(edits)) + b"".join(entries)))
    others = [_box(kind, body) for kind, body in _boxes(trak) if kind != b"edts"]
    return others[0] + edit_list + b"".join(others[1:])


def _ticks(data, kind):
    """The number of ticks a second in the first header of a kind."""
    at = data.index(kind) + 16
    return struct.unpack(">I", data[at : at + 4])[0]


def _boxes(data):
    """The boxes of an mp4 file or of a box: kind and content."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _box(kind, body):
    return struct.pack(">I", len(body) + 8) + kind + body
