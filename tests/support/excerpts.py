"""Compares excerpts of a recording with the same part of the whole file."""

import numpy as np
from etils import epath

from data_pipeline.media.audio import decode_audio
from data_pipeline.media.decode import Crop, Reason
from data_pipeline.media.excerpt import load_excerpt
from data_pipeline.media.video import decode_video

WHOLE = Crop(0, 0, 48, 64)
TIMES = [(0, 1.2), (0.4, 2.0), (3.32, 4.4), (6.4, 7.96), (8.0, 9.0)]
"""Begin and end, in s, of excerpts of a recording of 9 s."""

LONG_GOP = {"g": "200"}  # a key frame after 8 s; x264 makes B-frames by default
OPEN_GOP = {"x264-params": "open-gop=1:keyint=60"}
"""Options of encoders."""


def check(video, audio=None, times=TIMES, same_sound=True):
    """Compare excerpts with the whole file.

    Args:
        video: the video file.
        audio: a file of sound beside it; None for its own track.
        times: begin and end of each excerpt, in s.
        same_sound: whether their samples must be the same.

    Returns:
        The largest difference of two samples.
    """
    data = video.read_bytes()
    picture = decode_video(data, video.name, WHOLE)
    if audio is None:
        samples, _ = decode_audio(data, video.name, Reason.MISSING_AUDIO, picture.start)
    else:
        samples, _ = decode_audio(audio.read_bytes(), audio.name, Reason.EMPTY_AUDIO, 0)
    worst = 0
    for begin, end in times:
        excerpt = load_excerpt(epath.Path(video), audio and epath.Path(audio), begin, end, WHOLE)
        assert excerpt.jpegs == picture.jpegs[round(begin * 25) : round(end * 25)]
        assert excerpt.frame_size == picture.frame_size
        expected = samples[round(begin * 16_000) : round(end * 16_000)]
        assert len(excerpt.samples) == len(expected)
        difference = int(np.abs(excerpt.samples.astype(int) - expected).max())
        assert difference == 0 or not same_sound
        worst = max(worst, difference)
    return worst
