"""One flipped bit anywhere in a shard: its clip is replaced and reported, the others are read as before."""

import random
import shutil

import numpy as np
import pytest

from data_pipeline.format import records
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from data_pipeline.reading.requests import ClipRequest
from data_pipeline.reading.sources import ClipSource
from tests.support.set_fixtures import write_set
from tests.support.shard_damage import shard

CLIPS, IN_SHARD = 6, 3
DRAWS = (0.0, 0.3, 0.55, 0.8)
RECORDS = {"video": records.STRIDE * IN_SHARD, "audio": IN_SHARD}
BLOCK = 65_536  # of ArrayRecord: its footer begins the last one


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("healthy"), [67] * CLIPS, clips_a_shard=IN_SHARD, noisy=True)


@pytest.fixture
def copy(healthy, tmp_path):
    return shutil.copytree(healthy, tmp_path / "set")


@pytest.fixture(scope="module")
def samples(healthy):
    return read_all(ClipSource([healthy], ClipSampling()))


def read_all(source: ClipSource) -> dict[ClipRequest, tuple]:
    """Reads every clip from starts in all four phases: id of the clip that was read, frames and sound."""
    read = {}
    for example in range(CLIPS):
        for draw in DRAWS:
            frames, audio = source.empty_sample()
            got, count = source.read(ClipRequest(example, draw), frames, audio)
            read[ClipRequest(example, draw)] = (got, count, frames, audio)
    return read


def payloads(file, kind: str) -> list[int]:
    """Positions in the file at which the records of a shard begin."""
    data, places = file.read_bytes(), []
    while len(places) < RECORDS[kind]:
        places.append(data.index(b"HCMR", places[-1] + 1 if places else 0))
    return places


def flip(file, place: int, bit: int = 3) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


def broken_clips(root, samples) -> set[int]:
    """Clips that are replaced for some start; checks that nothing else has changed."""
    source = ClipSource([root], ClipSampling())
    replaced = set()
    for request, (got, count, frames, audio) in read_all(source).items():
        if got != request.example:
            replaced.add(request.example)
            (line,) = (line for clip, line in source.diagnose(request).items() if clip == request.example)
            assert "mismatch" in line
        # A replacement is intact, too.
        _, right_count, right_frames, right_audio = samples[ClipRequest(got, request.draw)]
        assert count == right_count
        np.testing.assert_array_equal(frames, right_frames)
        np.testing.assert_array_equal(audio, right_audio)
    return replaced


ALL = set(range(IN_SHARD))
PLACES = {
    "signature of the file, which no reader looks at": (lambda file, starts: 10, set()),
    "header of a record's chunk": (lambda file, starts: starts[0] - 20, {0}),
    "record's first byte": (lambda file, starts: starts[0], {0}),
    "record's checksum": (lambda file, starts: starts[0] + 5, {0}),
    "JPEG or PCM": (lambda file, starts: (starts[0] + starts[1]) // 2, {0}),
    "last byte of the last record": (lambda file, starts: starts[-1] + 2_000, {IN_SHARD - 1}),
    "footer": (lambda file, starts: file.stat().st_size - BLOCK + 30, ALL),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_flipped_bit_costs_the_clip_it_is_in(copy, samples, kind, place):
    file = shard(copy, kind, 0)
    find, broken = PLACES[place]
    flip(file, find(file, payloads(file, kind)))
    assert broken_clips(copy, samples) == broken


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_no_flipped_bit_is_trained_on(copy, samples, kind):
    file = shard(copy, kind, 0)
    whole, rng = file.read_bytes(), random.Random(0)
    last = payloads(file, kind)[-1]
    costs = []
    for _ in range(60):
        # As often in the last record and the index as in all before; the file ends with little but zeros.
        place = rng.randrange(*rng.choice(((0, last), (last, min(13 * last // 10, len(whole))))))
        flip(file, place, rng.randrange(8))
        broken = broken_clips(copy, samples)
        assert broken <= ALL
        costs.append(len(broken))
        file.write_bytes(whole)
    assert costs.count(1) > 20


def test_a_flipped_bit_is_counted_and_listed(copy):
    file = shard(copy, "audio", 1)
    starts = payloads(file, "audio")
    flip(file, (starts[1] + starts[2]) // 2)
    with Pipeline(PipelineConfig(data=(str(copy),), batch=CLIPS, threads=1)).batches() as stream:
        batches = [next(stream) for _ in range(3)]
        assert stream.replaced == 3
        ((clip, line),) = stream.broken.items()
    assert clip == IN_SHARD + 1
    assert line.startswith(f"clip/{clip} (clip {clip} of {copy}): ")
    assert "data hash mismatch" in line
    assert all(batch["replaced"].sum() == 1 and clip not in batch["example"] for batch in batches)
