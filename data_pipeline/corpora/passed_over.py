"""Files in a tree of clips that are no clips: what macOS, Windows, a NAS or a download leaves there.

Such files are passed over and counted by kind. They are never rejected clips.
"""

import os

COMPANION = "of macOS"
THUMBNAIL = "of Windows or a NAS"
DOWNLOAD = "of unfinished downloads"
UNFINISHED_CLIP = "clips whose download is unfinished"
HIDDEN = "hidden"
MISPLACED = "not in <speaker>/<video>"
SECOND = "second files of a clip"

_KINDS_SHOWN = 10
_COMPANIONS = {"__macosx", ".ds_store", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd"}
_THUMBNAILS = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "@recycle", ".@__thumb", "lost+found"),
}
_DOWNLOADS = (
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".aria2",
    ".ytdl",
    ".filepart",
    ".tmp",
    ".temp",
)


def kind_of(name: str) -> str | None:
    """Returns what a file or directory is that can never be a clip, by its name; None for others."""
    lowered = name.lower()
    if lowered.startswith("._") or lowered in _COMPANIONS:
        return COMPANION
    if lowered in _THUMBNAILS:
        return THUMBNAIL
    if lowered.endswith(_DOWNLOADS) or os.path.splitext(lowered)[0].endswith(_DOWNLOADS):
        return DOWNLOAD
    return HIDDEN if lowered.startswith(".") else None


def downloaded_clip(name: str, suffixes: tuple[str, ...]) -> str | None:
    """Returns the clip that an unfinished download belongs to: ``1`` for ``1.mp4.part`` and ``1.tmp.mp4``.

    Args:
        name: of any file.
        suffixes: of finished files, in small letters.

    Returns:
        The name of the clip without a suffix; None if it is no such download or does not tell the clip.
    """
    if kind_of(name) != DOWNLOAD:
        return None
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in suffixes:
        return os.path.splitext(stem)[0]
    while suffix:
        stem, suffix = os.path.splitext(stem)
        if suffix.lower() in suffixes:
            return stem
    return None


def other_kind(name: str) -> str:
    """Returns the kind of any other file that is no clip: its suffix in small letters."""
    return os.path.splitext(name)[1].lower() or "without a suffix"


def describe(passed_over: dict[str, int]) -> str:
    """Returns in words how many files of each kind were passed over; the rarest kinds share one number."""
    ordered = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    shown = ordered[:_KINDS_SHOWN]
    rest = sum(count for _, count in ordered[_KINDS_SHOWN:])
    kinds = [f"{count} {kind}" for kind, count in shown] + [f"{rest} of other kinds"] * bool(rest)
    return ", ".join(kinds) or "nothing"
