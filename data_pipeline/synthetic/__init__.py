"""Synthetic talking faces in the layouts of VoxCeleb2 and CREMA-D: media files made without any data.

Sound and picture correspond, because the same causes drive both. Person and mood (`person`) and the place
(`scene`) drive the sound (`speech` → `voice`) and the picture (`portrait`, `motion` → `features` → `frames`).
`clip` makes one clip, `corpus` writes directories of clips.
"""

from data_pipeline.synthetic.clip import ClipSpec, make_clip, person_of
from data_pipeline.synthetic.corpus import CorpusError, PlannedClip, write_crema_d, write_voxceleb2
from data_pipeline.synthetic.person import EMOTIONS

__all__ = [
    "EMOTIONS",
    "ClipSpec",
    "CorpusError",
    "PlannedClip",
    "make_clip",
    "person_of",
    "write_crema_d",
    "write_voxceleb2",
]
