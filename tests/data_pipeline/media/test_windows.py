"""Windows begin every hop, hold frames and sound of the same moment, and reach the end of the video."""

import numpy as np
import pytest

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.media.windows import FaceWindows, Windows

PLAN = Windows(ClipSampling(4, 2), hop=6)


def crop(number):
    return np.full((2, 2, 3), number, np.uint8)


def cut(n_frames, sound=None, first=0):
    face = FaceWindows(PLAN, sound, face=3)
    made = [face.add(number, crop(number)) for number in range(first, n_frames, 2)]
    return [window for window in [*made, face.finish()] if window is not None]


def firsts(windows):
    return [[int(frame[0, 0, 0]) for frame in window.frames] for window in windows]


def test_windows_begin_every_hop_and_the_last_ends_with_the_video():
    assert firsts(cut(20)) == [[0, 2, 4, 6], [6, 8, 10, 12], [12, 14, 16, 18]]
    assert firsts(cut(24)) == [[0, 2, 4, 6], [6, 8, 10, 12], [12, 14, 16, 18], [16, 18, 20, 22]]
    assert firsts(cut(20, first=4)) == [[4, 6, 8, 10], [10, 12, 14, 16], [12, 14, 16, 18]]


def test_a_short_video_repeats_its_last_frame():
    (window,) = cut(3)
    assert firsts([window]) == [[0, 2, 2, 2]]
    assert (window.begin, window.end, window.face) == (0.0, 4 / 25, 3)
    assert cut(0) == []


def test_the_sound_of_a_window_is_that_of_its_time():
    sound = np.arange(16_000, dtype=np.int16)
    windows = cut(24, sound)
    assert [window.begin for window in windows] == [0, 6 / 25, 12 / 25, 16 / 25]
    # A frame more than the window, as in pre-training; the last one is cut by the end of the sound.
    assert [int(window.sound[0]) for window in windows] == [0, 3_840, 7_680, 10_240]
    assert [len(window.sound) for window in windows] == [5_760, 5_760, 5_760, 5_760]
    assert [len(window.sound) for window in cut(24, sound[:12_000])] == [5_760, 5_760, 4_320, 1_760]
    assert [window.sound is None for window in cut(24, sound[:11_000])] == [False, False, False, True]


def test_sound_alone_is_cut_into_windows():
    sound = np.arange(16_000, dtype=np.int16)
    windows = PLAN.of_sound_alone(sound)
    assert [window.begin for window in windows] == [0, 6 / 25, 12 / 25, 17 / 25]
    assert windows[-1].end == 1
    assert all(window.frames is None for window in windows)
    (short,) = PLAN.of_sound_alone(sound[:2_000])
    assert (short.begin, short.end, len(short.sound)) == (0, 4 / 25, 2_000)
    assert PLAN.of_sound_alone(sound[:500]) == []


def test_frames_that_do_not_follow_and_impossible_hops_are_refused():
    face = FaceWindows(PLAN, None, 0)
    face.add(0, crop(0))
    with pytest.raises(ValueError, match="frame 4 does not follow frame 0 at stride 2"):
        face.add(4, crop(4))
    for hop in (0, 3):
        with pytest.raises(ValueError, match="no multiple of stride 2"):
            Windows(ClipSampling(4, 2), hop)
