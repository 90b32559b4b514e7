import itertools

import pytest

from data_pipeline.corpora import recordings
from data_pipeline.corpora.clip_files import ClipFiles, Clips, InputFile
from data_pipeline.media.reasons import Reason, UnusableClipError


@pytest.mark.parametrize(
    ("length", "parts"),
    [
        (0.0, [0.0]),
        (3.0, [3.0]),
        (8.0, [8.0]),
        (11.96, [11.96]),
        (12.0, [8.0, 4.0]),
        (19.0, [8.0, 11.0]),
        (20.0, [8.0, 8.0, 4.0]),
        (24.0, [8.0, 8.0, 8.0]),
    ],
)
def test_a_rest_is_a_clip_if_it_is_half_as_long_or_belongs_to_the_last(length, parts):
    found = recordings.parts_of(0.0, length, 8.0)
    assert [end - begin for begin, end in found] == pytest.approx(parts)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(found))


def test_parts_begin_on_frames_and_lose_nothing():
    found = recordings.parts_of(2.5, 2.5 + 3_600.03, 7.99)
    assert found[0][0] == 2.5
    assert found[-1][1] == pytest.approx(2.5 + 3_600.0)  # whole frames of 1/25 s
    assert all((begin - 2.5) * 25 == pytest.approx(round((begin - 2.5) * 25)) for begin, _ in found)


def test_recordings_are_cut_and_parts_say_where_they_come_from(monkeypatch):
    lengths = {"long.mp4": 20.0, "short.mp4": 5.0}

    def seconds(path):
        if path.name not in lengths:
            raise UnusableClipError(Reason.NOT_MEDIA, "no media")
        return lengths[path.name]

    monkeypatch.setattr(recordings, "recording_seconds", seconds)
    given = [
        ClipFiles("broken", InputFile(0, "broken.mp4")),
        ClipFiles("listed@100.00-116.00", InputFile(0, "x.mp4"), InputFile(0, "x.wav"), (100.0, 116.0)),
        ClipFiles("long", InputFile(0, "long.mp4")),
        ClipFiles("short", InputFile(0, "short.mp4")),
    ]
    cut = recordings.cut(Clips(given, {".txt": 1}, "videos of in"), ["in"], 8.0)
    assert [(clip.name, clip.span) for clip in cut.clips] == [
        ("broken", None),
        ("listed@100.00-108.00", (100.0, 108.0)),
        ("listed@108.00-116.00", (108.0, 116.0)),
        ("long@0.00-8.00", (0.0, 8.0)),
        ("long@16.00-20.00", (16.0, 20.0)),
        ("long@8.00-16.00", (8.0, 16.0)),
        ("short", None),
    ]
    assert cut.clips[1].audio == InputFile(0, "x.wav")
    assert (cut.passed_over, cut.found) == ({".txt": 1}, "videos of in, cut into 7 clips")
