"""Warns of clips whose frames do not have the size that the crop is made for.

The crop is in pixels, so it keeps the face only in frames of one size. From a larger frame it would keep a
corner, and no later check could tell.
"""

from collections.abc import Mapping

from data_pipeline.media.decode import Crop, Part

VOXCELEB2 = "224 × 224"  # what the default crop is made for


def name(size: tuple[int, int]) -> str:
    """Returns the name of a (height, width), as `warning` takes it."""
    return f"{size[0]} × {size[1]}"


def warning(n_clips: Mapping[str, int], crop: Part) -> str | None:
    """Describes the clips of another size, in one line.

    Args:
        n_clips: number of clips of each size.
        crop: the part of each frame that was kept. The default one is made for VoxCeleb2. Another one is
            taken to be made for the most frequent size. Where faces are found or whole frames kept, any size
            fits.

    Returns:
        None if there are no such clips.
    """
    if not n_clips or not isinstance(crop, Crop):
        return None
    fitting = VOXCELEB2 if crop == Crop() else max(sorted(n_clips), key=n_clips.__getitem__)
    others = {size: count for size, count in sorted(n_clips.items()) if size != fitting}
    if not others:
        return None
    n_all, n_others = sum(n_clips.values()), sum(others.values())
    most = max(others, key=others.__getitem__)
    share = f"{n_others} of {n_all} clips ({n_others / n_all:.1%})"
    return (
        f"warning: the frames of {share} are not {fitting}, most of them {most}, so the crop "
        f"{crop.top},{crop.left},{crop.height},{crop.width} keeps another part of them: find the "
        "faces with --crop=face, or prepare these videos by themselves with the --crop that fits"
    )
