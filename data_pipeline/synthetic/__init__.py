"""Made-up talking faces in the layouts of VoxCeleb2 and CREMA-D: real files, true correspondence, no data.

Who speaks and in what mood (`person`) drives both the sound (`speech` → `voice`) and the picture (`portrait`,
`motion` → `features` → `frames`), and so does the place (`scene`); `clip` joins them and `corpus` writes
directories of them.
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
