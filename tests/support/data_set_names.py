"""Names of the clips of data sets whose names follow a rule."""

_SENTENCES = ["DFA", "IEO", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI"]
_EMOTIONS = ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"]
_NEVER_RECORDED = ("1008_WSI", "1009_MTI", "1019_ITH", "1002_TIE_NEU", "1076_ITS_NEU")
_NOT_PUBLISHED = (
    "1040_ITH_SAD_XX",
    "1064_IEO_DIS_MD",
    "1064_TIE_SAD_XX",
    "1076_MTI_NEU_XX",
    "1076_MTI_SAD_XX",
)


def crema_d() -> list[str]:
    """The 7,442 clips of CREMA-D: 91 actors, 12 sentences, six emotions, one of them at three levels."""
    return [
        name
        for actor in range(1001, 1092)
        for sentence in _SENTENCES
        for emotion in _EMOTIONS
        for level in (("LO", "MD", "HI") if sentence == "IEO" and emotion != "NEU" else ("XX",))
        if not (name := f"{actor}_{sentence}_{emotion}_{level}").startswith(_NEVER_RECORDED)
    ]


def crema_d_published() -> list[str]:
    """The 7,437 clips of the published split files."""
    return [name for name in crema_d() if name not in _NOT_PUBLISHED]


def ravdess() -> list[str]:
    """The 1,440 speech clips of RAVDESS: 24 actors, eight emotions, neutral at one level only."""
    return [
        f"Actor_{actor:02d}/02-01-{emotion:02d}-{level:02d}-{sentence:02d}-{take:02d}-{actor:02d}"
        for actor in range(1, 25)
        for emotion in range(1, 9)
        for level in ((1,) if emotion == 1 else (1, 2))
        for sentence in (1, 2)
        for take in (1, 2)
    ]
