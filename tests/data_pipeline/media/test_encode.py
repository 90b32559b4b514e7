"""Written files are opened again to check codec, rate, size, counts, picture and sound."""

import wave

import av
import numpy as np
import pytest

from data_pipeline.media.encode import to_int16, write_m4a, write_mp4, write_wav


def moving_bar(count=30, height=48, width=64):
    """A bright bar moves one pixel to the right in every frame: its column tells the number of the frame."""
    frames = np.full((count, height, width, 3), (40, 90, 60), np.uint8)
    for index in range(count):
        frames[index, :, index + 8 : index + 14] = (230, 200, 40)
    return frames


def tone(seconds=1.3, rate=16_000, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def decode_sound(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        stream = container.streams.audio[0]
        return np.concatenate(frames), stream.codec_context.sample_rate, stream.codec_context.name


def decode_frames(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return np.stack(
            [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        ), stream.average_rate


@pytest.mark.parametrize("fps", [25, 30])
def test_mp4_keeps_every_frame_in_order(tmp_path, fps):
    frames = moving_bar()
    write_mp4(tmp_path / "clip.mp4", frames, fps=fps)
    decoded, rate = decode_frames(tmp_path / "clip.mp4")
    assert rate == fps
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 6  # chroma is halved, crf 23
    bar = decoded[..., 0].astype(int).mean(axis=1).argmax(axis=1)
    assert np.all(np.abs(bar - np.arange(len(frames)) - 10.5) <= 3)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert not container.streams.audio


def test_lower_crf_is_closer_to_the_picture(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), np.uint8).repeat(3, axis=3)
    errors = []
    for crf in (35, 5):
        write_mp4(tmp_path / f"{crf}.mp4", frames, crf=crf)
        errors.append(np.abs(decode_frames(tmp_path / f"{crf}.mp4")[0].astype(int) - frames).mean())
    assert errors[1] < errors[0] / 2


def test_mp4_holds_picture_and_sound(tmp_path):
    write_mp4(tmp_path / "clip.mp4", moving_bar(33), samples=tone(1.32))
    sound, rate, codec = decode_sound(tmp_path / "clip.mp4")
    assert (rate, codec) == (16_000, "aac")
    assert len(decode_frames(tmp_path / "clip.mp4")[0]) == 33
    assert_is_tone(sound, 1.32)


def assert_is_tone(sound, seconds):
    sound = sound / (32_768 if sound.dtype == np.int16 else 1)
    assert abs(len(sound) / 16_000 - seconds) < 0.1
    expected = tone(seconds)
    middle = slice(4_000, 12_000)  # sample-exact: a priming delay left in would shift the tone's phase
    assert np.abs(sound[middle] - expected[middle]).max() < 0.02


@pytest.mark.parametrize("as_int16", [False, True])
@pytest.mark.parametrize(
    ("write", "suffix", "codec"), [(write_m4a, "m4a", "aac"), (write_wav, "wav", "pcm_s16le")]
)
def test_sound_files_hold_the_sound(tmp_path, write, suffix, codec, as_int16):
    samples = to_int16(tone()) if as_int16 else tone()
    write(tmp_path / f"a.{suffix}", samples)
    sound, rate, name = decode_sound(tmp_path / f"a.{suffix}")
    assert (rate, name) == (16_000, codec)
    assert_is_tone(sound, 1.3)


def test_other_sample_rates_are_written(tmp_path):
    write_m4a(tmp_path / "a.m4a", tone(0.5, 44_100), rate=44_100)
    assert decode_sound(tmp_path / "a.m4a")[1] == 44_100
    write_wav(tmp_path / "a.wav", tone(0.5, 8_000), rate=8_000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (8_000, 4_000, 1)


def test_no_sample_gives_an_openable_file_without_sound(tmp_path):
    write_m4a(tmp_path / "a.m4a", np.zeros(0, np.int16))
    with av.open(str(tmp_path / "a.m4a")) as container:
        assert sum(frame.samples for s in container.streams.audio for frame in container.decode(s)) == 0


def test_the_same_input_gives_the_same_bytes(tmp_path):
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 255, (14, 14, 3)).repeat(16, axis=0).repeat(16, axis=1)
    noise = generator.normal(0, 3, (40, 224, 224, 3))
    frames = np.clip(colours + noise, 0, 255).astype(np.uint8)
    written = set()
    for _ in range(8):
        # Freed blocks full of numbers: an encoder that reads what it has not set gives other bytes.
        blocks = [generator.integers(0, 255, size, np.uint8) for size in range(20_000, 400_000, 20_000)]
        del blocks
        write_mp4(tmp_path / "a.mp4", frames, samples=tone())
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((3, 32, 32, 3), np.float32), "uint8"),
        (np.zeros((0, 32, 32, 3), np.uint8), "uint8"),
        (np.zeros((3, 31, 32, 3), np.uint8), "even"),
    ],
)
def test_bad_frames_are_refused(tmp_path, frames, message):
    with pytest.raises(ValueError, match=message):
        write_mp4(tmp_path / "a.mp4", frames)
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize("samples", [np.zeros((2, 9)), np.zeros(9, np.int32), np.array([0.0, np.nan])])
def test_bad_sound_is_refused(tmp_path, samples):
    with pytest.raises(ValueError, match="int16"):
        write_wav(tmp_path / "a.wav", samples)
