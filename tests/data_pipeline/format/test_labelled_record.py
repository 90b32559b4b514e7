import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from data_pipeline.format import records
from data_pipeline.format.labelled_record import encode_clip, parse_clip
from data_pipeline.format.payload import CorruptRecordError

JPEGS = [b"a" * 5, b"bb", b"c" * 9]
SAMPLES = np.arange(-3, 4, dtype=np.int16)


def stored(jpegs=JPEGS, samples=SAMPLES, name="Actor_01/02-ü"):
    return encode_clip(name, jpegs, samples, height=160, width=128, sample_rate=16_000)


def test_round_trip_without_copies():
    data = stored()
    record = parse_clip(data)
    assert record[:5] == ("Actor_01/02-ü", 3, 160, 128, 16_000)
    assert [bytes(record.jpeg(index)) for index in range(3)] == JPEGS
    assert np.array_equal(record.samples, SAMPLES)
    assert record.samples.dtype == np.int16
    assert np.shares_memory(record.samples, np.frombuffer(data, np.uint8))
    assert record.jpeg(1).obj is data


def test_the_envelope_is_what_tfds_reads():
    example = tf_example_pb2.Example.FromString(stored())
    (value,) = example.features.feature["record"].bytes_list.value
    assert parse_clip(value).samples.tolist() == SAMPLES.tolist()


def test_each_changed_byte_is_found():
    data = stored()
    start = data.index(b"HCMR")
    for place in range(start, len(data)):
        with pytest.raises(CorruptRecordError):
            parse_clip(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


@pytest.mark.parametrize("length", [10, 40, 60, 100])
def test_a_record_cut_short_is_found(length):
    with pytest.raises(CorruptRecordError):
        parse_clip(stored()[:length], checksum=False)


def test_kinds_are_not_mistaken_for_each_other():
    with pytest.raises(CorruptRecordError, match="a record of a labelled clip, where one of audio was asked"):
        records.parse_audio(stored())
    sound = records.encode_audio("a/b/c", SAMPLES, n_frames=3, fps=25.0, sample_rate=16_000)
    with pytest.raises(CorruptRecordError, match="a record of audio, where one of a labelled clip was asked"):
        parse_clip(sound)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_frame_that_is_not_there_is_an_error(index):
    with pytest.raises(IndexError, match=f"frame {index} of 3"):
        parse_clip(stored()).jpeg(index)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"jpegs": []}, "needs at least one frame"),
        ({"jpegs": [b"a", b""]}, "no frame may be empty"),
        ({"samples": SAMPLES.astype(np.float32)}, "must be .* int16"),
        ({"samples": SAMPLES[None]}, "must be .* int16"),
    ],
)
def test_what_is_no_clip_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        stored(**changed)
