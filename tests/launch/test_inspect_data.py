"""A prepared set is described, damage of every kind is found and named, and the sheet shows samples."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from matplotlib.image import imread

from data_pipeline.format import records
from data_pipeline.format.records import STRIDE
from data_pipeline.preparation import inspection
from data_pipeline.preparation.shard_writer import manifest_file
from hicmae_jax.evaluation.contact_sheet import draw_samples
from tests.support import corpus_fixtures

N_CLIPS = 9


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Nine clips of 20 … 28 frames, one of them with no sound, in eight pairs of shards."""
    root = tmp_path_factory.mktemp("prepared")
    corpus_fixtures.write_corpus(root / "raw", N_CLIPS + 1)
    corpus_fixtures.files_of(root / "raw", "id00001/video0/00009")[1].unlink()
    corpus_fixtures.prepare(root / "raw", root / "set")
    return root / "set"


@pytest.fixture
def damaged(prepared, tmp_path):
    """A copy of the set, for a test to damage."""
    return shutil.copytree(prepared, tmp_path / "set")


def where(root, name):
    """(shard, number in the shard, number of clips in the shard) of a clip."""
    for index, listed in enumerate(inspection.survey(root).listed):
        for number, clip in enumerate(listed):
            if clip.name == name:
                return index, number, len(listed)
    raise LookupError(name)


def file_of(root, kind, index):
    return root / getattr(inspection.survey(root).about.shards[index], kind)


def rewrite(path, changes):
    """Writes a shard again with some records replaced, so that the hashes of ArrayRecord are right."""
    reader = ArrayRecordReader(str(path))
    stored = [reader.read([index])[0] for index in range(reader.num_records())]
    reader.close()
    writer = ArrayRecordWriter(str(path), records.ARRAY_RECORD_OPTIONS)
    for index, record in enumerate(stored):
        writer.write(changes[index](record) if index in changes else record)
    writer.close()


def problems(root):
    done = []
    found = inspection.verify(root, inspection.survey(root), 2, done.append)
    assert sum(done) == N_CLIPS
    return found


def test_survey_counts_what_is_there(prepared):
    found = inspection.survey(prepared)
    assert found.speakers == {"id00000", "id00001"}
    assert len(found.recordings) == 6
    assert sorted(np.round(found.seconds * 25).astype(int)) == list(range(20, 29))
    assert found.sampled == N_CLIPS
    assert sum(shard.n_clips for shard in found.about.shards) == N_CLIPS
    # Phase 0 has ⌈n / 4⌉ of n frames.
    assert len(found.frame_bytes) == sum(-(-n // 4) for n in range(20, 29))
    reader = ArrayRecordReader(str(file_of(prepared, "video", 0)))
    record = records.parse_video(reader.read([0])[0])
    reader.close()
    assert list(found.frame_bytes[: record.n_stored]) == [len(record.jpeg(i)) for i in range(record.n_stored)]


def test_an_intact_set_has_no_problem(prepared):
    assert problems(prepared) == []


def test_a_flipped_byte_is_found_by_name(damaged):
    name = "id00000/video2/00002"
    index, number, _ = where(damaged, name)
    path = file_of(damaged, "video", index)
    reader = ArrayRecordReader(str(path))
    payload = bytes(records.parse_video(reader.read([STRIDE * number + 3])[0]).payload)
    reader.close()
    stored = bytearray(path.read_bytes())
    at = stored.find(payload)
    assert at > 0
    stored[at + len(payload) // 2] ^= 0x40
    path.write_bytes(stored)
    (problem,) = problems(damaged)
    assert problem.clip == name
    assert f"record {STRIDE * number + 3} of video/1.0.0/" in problem.place


def test_a_frame_that_is_no_jpeg_is_found_even_with_valid_checksums(damaged):
    name = "id00001/video1/00001"
    index, number, _ = where(damaged, name)

    def spoil(stored):
        record = records.parse_video(stored)
        jpegs = [bytes(record.jpeg(i)) for i in range(record.n_stored)]
        jpegs[1] = jpegs[1][: len(jpegs[1]) // 2]
        return video_record(record, jpegs)

    rewrite(file_of(damaged, "video", index), {STRIDE * number + 2: spoil})
    (problem,) = problems(damaged)
    assert problem.clip == name
    assert problem.what.startswith("frame 6:")  # the second frame of phase 2


def video_record(record, jpegs, **changes):
    about = {"n_frames": record.n_frames, "phase": record.phase, "stride": record.stride, "fps": record.fps}
    size = {"height": record.height, "width": record.width}
    return records.encode_video(record.clip, jpegs, **{**about, **size, **changes})


def test_a_frame_of_another_size_is_found(damaged):
    index, number, _ = where(damaged, "id00000/video0/00000")

    def enlarge(stored):
        record = records.parse_video(stored)
        jpegs = [bytes(record.jpeg(i)) for i in range(record.n_stored)]
        jpegs[-1] = simplejpeg.encode_jpeg(np.zeros((40, 32, 3), np.uint8))
        return video_record(record, jpegs)

    rewrite(file_of(damaged, "video", index), {STRIDE * number: enlarge})
    (problem,) = problems(damaged)
    assert problem.what == "frame 16 is 40 × 32, not 32 × 32"


def test_swapped_phases_are_found(damaged):
    name = "id00000/video1/00004"
    index, number, _ = where(damaged, name)
    path, first = file_of(damaged, "video", index), STRIDE * number
    reader = ArrayRecordReader(str(path))
    one, two = (reader.read([first + phase])[0] for phase in (1, 2))
    reader.close()
    rewrite(path, {first + 1: lambda _: two, first + 2: lambda _: one})
    found = problems(damaged)
    assert [problem.clip for problem in found] == [name, name]
    assert f"('{name}', 24, 2, 4), not ('{name}', 24, 1, 4)" in found[0].what


def test_sound_that_is_too_short_for_the_picture_is_found(damaged):
    name = "id00001/video0/00003"
    index, number, _ = where(damaged, name)

    def cut(stored):
        record = records.parse_audio(stored)
        return records.encode_audio(
            record.clip, record.samples[:-1_600], n_frames=record.n_frames, fps=25, sample_rate=16_000
        )

    rewrite(file_of(damaged, "audio", index), {number: cut})
    (problem,) = problems(damaged)
    assert problem.clip == name
    assert "samples, not" in problem.what
    manifest = json.loads((damaged / manifest_file(index)).read_text())
    manifest["clips"][number][2] -= 1_600
    (damaged / manifest_file(index)).write_text(json.dumps(manifest))
    totals, problem = problems(damaged)
    assert "samples, the manifests list" in totals.what
    assert problem.what.startswith("length_mismatch: ")


def test_a_truncated_and_a_missing_file_are_found_once_each(damaged):
    video, audio = file_of(damaged, "video", 1), file_of(damaged, "audio", 2)
    video.write_bytes(video.read_bytes()[:-1000])
    audio.unlink()
    found = problems(damaged)
    n_lost = [len(listed) for listed in inspection.survey(damaged).listed]
    assert [problem.clip for problem in found if problem.place.startswith("video")] == [
        f"all {n_lost[1]} clips"
    ]
    assert [problem.clip for problem in found if problem.place.startswith("audio")] == [
        f"all {n_lost[2]} clips"
    ]
    assert len(found) == 2
    assert "No such file" in found[-1].what


def test_a_lost_manifest_is_one_clear_line(damaged):
    (damaged / manifest_file(3)).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"manifests/00003\.json is missing: copy the whole directory"
    ):
        inspection.survey(damaged)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "launch.inspect_data", *arguments], capture_output=True, text=True
    )


def test_the_command_describes_verifies_and_draws(prepared, tmp_path):
    done = command(f"--data={prepared}", "--verify", f"--sheet={tmp_path / 'sheet.png'}", "--samples=3")
    assert done.returncode == 0, done.stderr
    for line in (
        "clips 9, of which 0 resampled",
        "speakers 2 in 6 videos",
        "rejected 1 (10.0%)",
        "9 clips read in",
        "all intact",
    ):
        assert line in " ".join(done.stdout.split())
    picture = imread(tmp_path / "sheet.png")
    assert picture.shape[1] > 1_000
    assert picture[..., :3].std() > 0.1
    again = command(f"--data={prepared}", f"--sheet={tmp_path / 'sheet.png'}")
    assert again.returncode == 1
    assert again.stderr.strip().endswith("exists: delete it or give another name")


def test_the_command_lists_faults_and_returns_2(damaged):
    name = "id00001/video2/00005"
    index, number, _ = where(damaged, name)
    rewrite(file_of(damaged, "audio", index), {number: lambda stored: stored[:-2]})
    done = command(f"--data={damaged}", "--verify")
    assert done.returncode == 2
    assert "problems: 1" in done.stdout
    assert f"  {name} (record {number} of audio/1.0.0/" in done.stdout
    assert "truncated" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data="], "--data names no prepared set"),
        (["--data={tmp}"], "dataset.json is missing: this directory is not a prepared set"),
        (["--data={set}", "--sheet={tmp}/a.jpg"], "does not end in .png"),
        (["--data={set}", "--sheet={tmp}/none/a.png"], "there is no directory"),
        (["--data={set}", "verify"], "do not know what to do with 'verify': options begin with --"),
    ],
)
def test_bad_input_is_one_clear_line(prepared, tmp_path, arguments, message):
    done = command(*(argument.format(tmp=tmp_path, set=prepared) for argument in arguments))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("inspect_data: ")
    assert line.endswith(message) or message in line


def test_two_sets_and_their_shared_speakers(prepared, damaged):
    done = command(f"--data={prepared},{damaged}")
    assert done.returncode == 0, done.stderr
    assert f"speakers in both {prepared} and {damaged}: 2" in done.stdout


def test_samples_are_what_the_model_will_see(prepared):
    names, inputs = draw_samples([str(prepared)], 4, seed=1)
    listed = {clip.name for shard in inspection.survey(prepared).listed for clip in shard}
    assert len(set(names)) == 4
    assert set(names) <= listed
    assert inputs.video.shape == (4, 16, 160, 160, 3)
    assert inputs.log_mel.shape == (4, 256, 128)
    assert inputs.video.dtype == np.uint8
    for name, video in zip(names, inputs.video):
        # The picture of each clip has blocks of its own colours, so another clip would be noticed.
        number = int(name.split("/")[-1])
        own = corpus_fixtures.picture(1, seed=number)[0, :32].reshape(-1, 3) / 255
        centre = video[0, 16::32, 16::32].reshape(-1, 3) / 255
        assert np.abs(centre[:, None] - own[None]).max(axis=2).min(axis=1).mean() < 0.15
    same = draw_samples([str(prepared)], 4, seed=1)[1]
    other = draw_samples([str(prepared)], 4, seed=2)[1]
    assert np.array_equal(same.video, inputs.video)
    assert not np.array_equal(other.video, inputs.video)
