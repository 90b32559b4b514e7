import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from data_pipeline.format import records

CLIP = "id00012/21Uxsk56VDQ/00001"


def video(n_frames=22, phase=1, stride=4, name=CLIP, size=50):
    rng = np.random.default_rng(phase)
    jpegs = [rng.bytes(size + frame) for frame in range(phase, n_frames, stride)]
    layout = {"n_frames": n_frames, "phase": phase, "stride": stride, "fps": 25.0, "height": 160, "width": 96}
    return jpegs, records.encode_video(name, jpegs, **layout)


def audio(n_samples=1200, name=CLIP):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, n_samples).astype(np.int16)
    return samples, records.encode_audio(name, samples, n_frames=22, fps=25.0, sample_rate=16_000)


def payload_of(stored):
    return stored[stored.index(b"HCMR") :]


@pytest.mark.parametrize("phase", range(records.STRIDE))
def test_video_round_trip(phase):
    jpegs, stored = video(phase=phase)
    record = records.parse_video(stored)
    assert (record.clip, record.n_frames, record.phase, record.stride) == (CLIP, 22, phase, 4)
    assert (record.fps, record.height, record.width) == (25.0, 160, 96)
    assert [bytes(record.jpeg(i)) for i in range(record.n_stored)] == jpegs


def test_the_phases_of_a_clip_hold_each_frame_once():
    counts = [records.parse_video(video(n_frames=23, phase=phase)[1]).n_stored for phase in range(4)]
    assert counts == [6, 6, 6, 5]


def test_audio_round_trip():
    samples, stored = audio()
    record = records.parse_audio(stored)
    assert (record.clip, record.n_frames, record.fps, record.sample_rate) == (CLIP, 22, 25.0, 16_000)
    assert record.samples.dtype == np.int16
    np.testing.assert_array_equal(record.samples, samples)


@given(st.text(max_size=40), st.integers(1, 30), st.integers(1, 7), st.integers(1, 70_000))
def test_any_name_and_size_survive(name, n_frames, stride, size):
    jpegs, stored = video(n_frames=n_frames, phase=0, stride=stride, name=name, size=size)
    record = records.parse_video(stored)
    assert record.clip == name
    assert bytes(record.jpeg(record.n_stored - 1)) == jpegs[-1]


@pytest.mark.parametrize("n_samples", [0, 1, 30, 60, 8_000, 1_100_000])
def test_the_envelope_is_what_protobuf_writes(n_samples):
    _, stored = audio(n_samples)
    example = tf_example_pb2.Example()
    example.features.feature[records.FEATURE].bytes_list.value.append(payload_of(stored))
    assert example.SerializeToString() == stored


def test_bare_payload_is_read_too():
    jpegs, stored = video()
    assert bytes(records.parse_video(payload_of(stored)).jpeg(0)) == jpegs[0]


def test_parsing_does_not_copy_the_payload():
    _, stored = video()
    record = records.parse_video(stored)
    assert record.payload.obj is stored
    assert record.jpeg(1).obj is stored
    assert not records.parse_audio(audio()[1]).samples.flags.owndata


def test_every_flipped_byte_of_the_payload_is_found():
    _, stored = video(n_frames=9, size=5)
    start = stored.index(b"HCMR")
    for place in range(start, len(stored)):
        damaged = bytearray(stored)
        damaged[place] ^= 0x10
        with pytest.raises(records.CorruptRecordError):
            records.parse_video(bytes(damaged))


@pytest.mark.parametrize(("parse", "make"), [(records.parse_video, video), (records.parse_audio, audio)])
def test_every_truncation_is_found_without_the_checksum(parse, make):
    stored = make()[1]
    for length in range(0, len(stored), 7):
        with pytest.raises(records.CorruptRecordError):
            parse(stored[:length], checksum=False)


def test_a_reader_may_skip_the_checksum():
    jpegs, stored = video()
    damaged = stored[:-1] + bytes([stored[-1] ^ 1])
    with pytest.raises(records.CorruptRecordError, match="checksum"):
        records.parse_video(damaged)
    record = records.parse_video(damaged, checksum=False)
    assert bytes(record.jpeg(0)) == jpegs[0]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [(0, b"JUNK", "not a record"), (12, b"\x09", "version 9"), (13, b"\x02", "a record of audio")],
)
def test_error_says_what_is_wrong(place, value, message):
    payload = payload_of(video()[1])
    with pytest.raises(records.CorruptRecordError, match=message):
        records.parse_video(payload[:place] + value + payload[place + len(value) :])


def test_impossible_offsets_are_found_without_the_checksum():
    payload = bytearray(payload_of(video()[1]))
    intact = records.parse_video(bytes(payload))
    end_of_first = intact.offsets[0] - 4 * intact.n_stored  # the table ends where the frames begin
    struct.pack_into("<I", payload, end_of_first, 2**31)
    record = records.parse_video(bytes(payload), checksum=False)
    with pytest.raises(records.CorruptRecordError, match="impossible"):
        record.jpeg(0)


def test_an_index_beyond_the_frames_is_an_error():
    record = records.parse_video(video()[1])
    with pytest.raises(IndexError):
        record.jpeg(record.n_stored)


def test_frames_must_be_those_of_the_phase():
    jpegs, _ = video()
    layout = {"n_frames": 22, "stride": 4, "fps": 25.0, "height": 160, "width": 96}
    with pytest.raises(ValueError, match="does not have 5 frames"):
        records.encode_video(CLIP, jpegs[1:], phase=0, **layout)


@pytest.mark.parametrize("samples", [np.zeros((10, 2), np.int16), np.zeros(10, np.float32)])
def test_sound_must_be_mono_int16(samples):
    with pytest.raises(ValueError, match="int16"):
        records.encode_audio(CLIP, samples, n_frames=22, fps=25.0, sample_rate=16_000)
