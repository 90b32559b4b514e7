"""Speakers and moods: the common causes of picture and sound of a synthetic clip.

The body size of a person decides pitch and vocal-tract length, and also the breadth of face and jaw. Age
decides breath and tempo, and also grey hair and lines. A mood moves brows, lids, lips and head, and changes
pitch, loudness, tempo and timbre. Signs and magnitudes follow the action units of Ekman & Friesen (FACS) and
the vocal correlates of Scherer (2003), not data.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")

SKINS = np.array(
    [(236, 196, 172), (224, 176, 146), (198, 146, 112), (160, 112, 82), (122, 82, 60), (104, 72, 56)]
)
HAIRS = np.array([(44, 34, 30), (78, 54, 38), (122, 82, 48), (168, 128, 78), (134, 62, 38), (34, 30, 34)])
IRISES = np.array([(74, 52, 36), (98, 76, 46), (86, 110, 80), (88, 120, 152), (60, 44, 36)])
GREY = np.array((168, 166, 164))


@dataclass(frozen=True)
class Person:
    """Permanent traits of a speaker. Lengths are in pixels of the 224 × 224 frame, colours 0–255 RGB."""

    size: float  # −1 (small, high voice) … 1 (large, deep voice)
    age: float  # 0 … 1
    pitch: float  # resting fundamental frequency, Hz
    tract: float  # factor on every formant frequency: small for a long vocal tract
    breath: float  # share of breath noise in the voice
    tempo: float  # factor on the rate of speech
    face_width: float  # half the face's breadth at the eyes
    face_height: float  # half the face's height
    jaw: float  # breadth of the jaw as a share of the face's
    eye_gap: float  # from the middle to an eye's centre
    eye_size: float  # half an eye's breadth
    nose_length: float
    nose_width: float
    mouth_width: float  # half the mouth's breadth at rest
    lip: float  # thickness of a lip
    brow: float  # thickness of a brow
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    hair_length: float  # 0 bald, 0.5 short, 1 long
    fringe: float  # how far hair covers the forehead, 0 … 1
    beard: float  # 0 … 1
    glasses: bool


@dataclass(frozen=True)
class Emotion:
    """A mood, as differences from a neutral face and voice, for which every field is 0."""

    brow_raise: float = 0.0  # whole brow up, pixels
    brow_inner: float = 0.0  # inner end of the brow up (+) or down (−), pixels
    frown: float = 0.0  # lines between the brows, 0 … 1
    lids: float = 0.0  # eye opening, relative: −1 shut
    smile: float = 0.0  # corners of the mouth up (+) or down (−), pixels
    stretch: float = 0.0  # breadth of the mouth, relative
    lip_raise: float = 0.0  # upper lip up, pixels; shows the teeth
    wrinkle: float = 0.0  # wrinkled nose and deep folds beside it, 0 … 1
    nod: float = 0.0  # head down (+) or up (−), pixels at the nose
    tilt_head: float = 0.0  # roll, radians
    motion: float = 0.0  # amplitude and rate of head motion, relative
    tremble: float = 0.0  # fast shaking of the head, pixels
    pitch: float = 0.0  # semitones
    pitch_range: float = 0.0  # relative
    contour: float = 0.0  # rise (+) or fall (−) over a phrase, semitones, added to the neutral fall
    tempo: float = 0.0  # relative
    energy: float = 0.0  # decibels
    brightness: float = 0.0  # spectral tilt, decibels an octave
    breath: float = 0.0  # added share of breath noise
    tremor: float = 0.0  # 6 Hz wavering of the pitch, semitones

    def scaled(self, intensity: float) -> "Emotion":
        """The same mood, weaker or stronger: every displacement × ``intensity``."""
        return Emotion(**{name: intensity * value for name, value in dataclasses.asdict(self).items()})


MOODS = {
    "ANG": Emotion(
        brow_raise=-2.5, brow_inner=-4.5, frown=1.0, lids=-0.25, smile=-1.5, stretch=0.06, lip_raise=1.2,
        nod=2.0, motion=0.9, pitch=3.0, pitch_range=0.7, contour=-1.0, tempo=0.2, energy=7.0, brightness=2.6,
    ),
    "DIS": Emotion(
        brow_raise=-1.8, brow_inner=-2.0, frown=0.4, lids=-0.45, smile=-2.2, stretch=-0.06, lip_raise=3.2,
        wrinkle=1.0, nod=-2.5, tilt_head=0.07, motion=-0.1, pitch=-2.0, pitch_range=-0.2, contour=-3.0,
        tempo=-0.22, energy=1.0, brightness=0.8, breath=0.12,
    ),
    "FEA": Emotion(
        brow_raise=4.5, brow_inner=3.5, lids=0.45, smile=-1.0, stretch=0.18, nod=-1.5, motion=0.5,
        tremble=0.7, pitch=6.0, pitch_range=-0.3, contour=2.0, tempo=0.3, energy=1.5, breath=0.3, tremor=0.6,
    ),
    "HAP": Emotion(
        brow_raise=1.5, lids=-0.12, smile=5.5, stretch=0.22, lip_raise=1.0, nod=-1.0, motion=0.8,
        pitch=4.0, pitch_range=0.9, contour=4.0, tempo=0.12, energy=4.0, brightness=1.2,
    ),
    "NEU": Emotion(),
    "SAD": Emotion(
        brow_raise=0.5, brow_inner=4.5, frown=0.3, lids=-0.4, smile=-4.0, stretch=-0.08, nod=4.0,
        tilt_head=-0.05, motion=-0.6, pitch=-2.0, pitch_range=-0.55, contour=-2.0, tempo=-0.3,
        energy=-7.0, brightness=-2.6, breath=0.15, tremor=0.15,
    ),
}  # fmt: skip


def make_person(rng: np.random.Generator) -> Person:
    """Draws a speaker; body size has the strongest effect on both face and voice."""
    large = rng.random() < 0.5  # two overlapping groups, as among adult voices
    size = float(np.clip(rng.normal(0.5 if large else -0.5, 0.25), -1, 1))
    age = float(rng.random())
    grey = np.clip((age - 0.55) * 2.5, 0, 0.9)
    hair = HAIRS[rng.integers(len(HAIRS))] * (1 - grey) + GREY * grey
    skin = SKINS[rng.integers(len(SKINS))] * (1 + rng.normal(0, 0.05) + rng.normal(0, 0.015, 3))
    return Person(
        size=size,
        age=age,
        pitch=float(158 * 2 ** (-0.62 * size + rng.normal(0, 0.05))),
        tract=float(1.03 - 0.11 * size + rng.normal(0, 0.015)),
        breath=float(0.03 + 0.08 * age + 0.04 * rng.random()),
        tempo=float(1.08 - 0.16 * age + rng.normal(0, 0.04)),
        face_width=float(49 + 4.5 * size + rng.normal(0, 2)),
        face_height=float(66 + 3.0 * size + rng.normal(0, 2)),
        jaw=float(np.clip(0.80 + 0.10 * size + rng.normal(0, 0.03), 0.66, 0.95)),
        eye_gap=float(21.5 + 1.2 * size + rng.normal(0, 1)),
        eye_size=float(10.0 - 0.6 * size + rng.normal(0, 0.6)),
        nose_length=float(30 + rng.normal(0, 2)),
        nose_width=float(9.0 + 1.2 * size + rng.normal(0, 1.2)),
        mouth_width=float(17.5 + 1.5 * size + rng.normal(0, 1.2)),
        lip=float(4.3 - 0.7 * size + rng.normal(0, 0.6)),
        brow=float(2.6 + 0.7 * size + rng.normal(0, 0.3)),
        skin=tuple(skin.tolist()),
        hair=tuple(hair.tolist()),
        iris=tuple(IRISES[rng.integers(len(IRISES))].tolist()),
        hair_length=_hair_length(size, age, rng),
        fringe=float(rng.random()),
        beard=float(rng.random()) if size > 0.2 and rng.random() < 0.45 else 0.0,
        glasses=bool(rng.random() < 0.2),
    )


def _hair_length(size: float, age: float, rng: np.random.Generator) -> float:
    if size > 0 and rng.random() < 0.1 + 0.3 * age:
        return 0.0
    return 1.0 if rng.random() < (0.75 if size < 0 else 0.12) else 0.5
