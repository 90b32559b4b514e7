"""What commands say of faces in the frames of a set."""

from os import PathLike
from typing import NamedTuple

from data_pipeline.format.labelled_set import LabelledSet
from data_pipeline.format.prepared_set import PreparedSet
from data_pipeline.media import faces
from data_pipeline.preparation import face_check


class FaceReport(NamedTuple):
    """Whether the frames of a set show faces.

    Attributes:
        found: what was found, or that it was not looked for.
        warning: a line of warning; None if most frames show a face, or if it was not looked for.
    """

    found: str
    warning: str | None


def report(root: str | PathLike[str], about: PreparedSet | LabelledSet) -> FaceReport:
    """Looks for faces in the set at `root`, which `about` describes, if the extra ``face`` is installed."""
    if not faces.installed():
        return FaceReport("not looked for: pip install 'hicmae_jax[face]'", None)
    seen = face_check.look(root, about)
    found = f"in {seen.n_faces} of {seen.n_frames} clips that were looked at"
    return FaceReport(found, face_check.warning(seen))
