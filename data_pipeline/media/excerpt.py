"""Decodes an excerpt of a long recording: its frames as JPEG and the sound of their time, as `decode` does.

The file is read as a stream, from somewhat before the excerpt to its end. So it may be of any length and
size, and damage elsewhere in it does not matter. An excerpt has the frames and the samples that the whole
file would have there; `excerpt_sound` says where the samples may differ.
"""

import functools

from etils import epath

from data_pipeline.media.decode import Clip, Part, clip_of, decode_part
from data_pipeline.media.excerpt_sound import decode_excerpt_sound
from data_pipeline.media.excerpt_video import decode_excerpt
from data_pipeline.media.reasons import Reason
from data_pipeline.media.span import span_of


def load_excerpt(video: epath.Path, audio: epath.Path | None, begin: float, end: float, crop: Part) -> Clip:
    """Decodes an excerpt of a recording and checks that it can be used.

    Args:
        video: a video file of any length.
        audio: a file of sound whose time 0 is that of the picture's first frame; None for the video file's
            own track.
        begin: in s after the picture's first frame.
        end: in s after the picture's first frame. The excerpt has the frames whose time, their number /
            `FPS`, is in [begin, end), and the sound from the first of them to the end of the last one.
        crop: what is kept of each frame; a `FaceCrop` follows the largest face of the excerpt.

    Returns:
        The clip.

    Raises:
        ValueError: not 0 ≤ begin < end.
        UnusableClipError: the excerpt cannot be used, reaches beyond the end of the picture, or lasts more
            than `limits.MAX_SECONDS`; or a file is missing.
        OSError: a file exists but cannot be read.
        ImportError: faces are to be cut out, and the extra ``face`` is not installed.
    """
    span = span_of(begin, end)
    picture = decode_part(functools.partial(decode_excerpt, video, span), video.name, crop)
    if audio is None:
        start = picture.start + span.begin
        sound = decode_excerpt_sound(video, start, span.n_samples, Reason.MISSING_VIDEO, Reason.MISSING_AUDIO)
    else:
        sound = decode_excerpt_sound(
            audio, span.begin, span.n_samples, Reason.MISSING_AUDIO, Reason.EMPTY_AUDIO
        )
    return clip_of(picture, *sound)
