"""Synthetic talking faces: media files made without any data.

The layouts are those of VoxCeleb2 and CREMA-D, and that of the labelled corpus ``made_up``.

Sound and picture correspond, because the same causes drive both. Person and mood (`person`) and the place
(`scene`) drive the sound (`speech` → `voice`) and the picture (`portrait`, `motion` → `features` → `frames`).
`clip` makes one clip, `corpus` and `made_up` plan directories of clips, and `writing` writes them.

In `made_up`, emotions are hard to tell: `difficulty` says how hard, `style` makes every speaker show them
differently, and `camera` and `microphone` disturb picture and sound.
"""

from data_pipeline.synthetic.clip import ClipSpec, make_clip, person_of
from data_pipeline.synthetic.corpus import write_crema_d, write_voxceleb2
from data_pipeline.synthetic.difficulty import EASY, Difficulty
from data_pipeline.synthetic.made_up import write_made_up
from data_pipeline.synthetic.person import EMOTIONS
from data_pipeline.synthetic.writing import CorpusError, PlannedClip

__all__ = [
    "EASY",
    "EMOTIONS",
    "ClipSpec",
    "CorpusError",
    "Difficulty",
    "PlannedClip",
    "make_clip",
    "person_of",
    "write_crema_d",
    "write_made_up",
    "write_voxceleb2",
]
