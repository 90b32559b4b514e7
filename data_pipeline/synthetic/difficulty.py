"""How hard it is to tell a clip's emotion, and what is drawn for each clip because of it.

The rule of the label: **a clip's emotion is that of its stronger expression**. Face and voice each show an
emotion with an intensity. In most clips both show the same emotion. In a contradicting clip, one of them
shows the clip's emotion, and the other shows another emotion (or none: NEU), more weakly. A clip is NEU only
if face and voice both are.
"""

from dataclasses import dataclass

import numpy as np

from data_pipeline.synthetic.person import EMOTIONS

COVERED = ("eyes", "mouth")  # parts of the face that something may cover


@dataclass(frozen=True)
class Difficulty:
    """How hard a corpus is. A value of 0 switches a source of difficulty off, unless said otherwise.

    Attributes:
        weakest: intensity of the weakest mood, where 1 is usual; intensities are uniform from it to
            `strongest`.
        strongest: intensity of the strongest mood.
        imbalance: the weaker of face and voice has at least 1 − `imbalance` of the other's intensity.
        contradiction: share of the clips in which face and voice show different emotions.
        contrast: in such a clip, the largest intensity of the wrong emotion, relative to the right one's.
        rest: how much neutral faces and voices differ between speakers (factor on `style.REST`).
        habits: how much speakers differ in the movements by which they show a mood, 0 … 1.
        variety: how much the same speaker's clips differ in them, 0 … 1.
        occlusion: share of the clips in which something covers the eyes or the mouth.
        coarse: share of the clips of a low resolution: squares of 2 or 4 pixels of one colour.
        exposure: largest change of brightness, in octaves up or down.
        camera_noise: largest standard deviation of the sensor's noise, 0–255 units.
        sound_noise: lowest ratio of speech to background noise, dB; the highest is 30 dB above it.
        microphone: standard deviation of the recording level, dB.
    """

    weakest: float = 0.5
    strongest: float = 2.0
    imbalance: float = 0.5
    contradiction: float = 0.2
    contrast: float = 0.7
    rest: float = 0.3
    habits: float = 0.3
    variety: float = 0.4
    occlusion: float = 0.2
    coarse: float = 0.3
    exposure: float = 0.25
    camera_noise: float = 6.0
    sound_noise: float = 12.0
    microphone: float = 2.0


EASY = Difficulty(
    weakest=1.0, strongest=1.0, imbalance=0.0, contradiction=0.0, contrast=0.0, rest=0.0, habits=0.0,
    variety=0.0, occlusion=0.0, coarse=0.0, exposure=0.0, camera_noise=0.0, sound_noise=90.0, microphone=0.0,
)  # fmt: skip
"""Every speaker shows every emotion in the same strength and in the same way, and nothing disturbs it."""


@dataclass(frozen=True)
class Facts:
    """What was drawn for a clip.

    Attributes:
        emotion: the label, one of `EMOTIONS`.
        intensity: of the stronger expression; 0 for NEU.
        face: the emotion that the face shows.
        face_intensity: its intensity, 0 for NEU.
        voice: the emotion that the voice shows.
        voice_intensity: its intensity, 0 for NEU.
        covered: "eyes", "mouth", or "" for a free view of the face.
        coarseness: side of the squares of one colour, pixels; 1 is the full resolution.
        exposure: change of brightness, octaves.
        camera_noise: standard deviation of the sensor's noise, 0–255 units.
        signal_to_noise: level of speech above the background noise, dB.
        level: change of the recording level, dB.
    """

    emotion: str
    intensity: float
    face: str
    face_intensity: float
    voice: str
    voice_intensity: float
    covered: str
    coarseness: int
    exposure: float
    camera_noise: float
    signal_to_noise: float
    level: float

    @property
    def contradiction(self) -> str:
        """Which of "face" and "voice" shows another emotion than the label; "" if neither does."""
        if self.face != self.emotion:
            return "face"
        return "voice" if self.voice != self.emotion else ""


def draw_facts(emotion: str, difficulty: Difficulty, rng: np.random.Generator) -> Facts:
    """Draws what a clip of an emotion shows, and through which disturbances.

    Args:
        emotion: the label, one of `EMOTIONS`.
        difficulty: of the corpus.
        rng: the clip's random stream.

    Returns:
        The facts. The number of draws is the same for every clip.
    """
    intensity = float(rng.uniform(difficulty.weakest, difficulty.strongest))
    weaker = intensity * float(1 - difficulty.imbalance * rng.random())
    wrong = intensity * float(rng.uniform(0.5, 1) * difficulty.contrast)
    contradicts = bool(rng.random() < difficulty.contradiction) and emotion != "NEU"
    others = [name for name in EMOTIONS if name != emotion]
    other = others[int(rng.integers(len(others)))]
    strong = (emotion, intensity)
    second = (other, wrong) if contradicts else (emotion, weaker)
    face, voice = (strong, second) if rng.random() < 0.5 else (second, strong)
    is_covered, part = rng.random() < difficulty.occlusion, COVERED[int(rng.integers(len(COVERED)))]
    is_coarse, coarseness = rng.random() < difficulty.coarse, 2 * int(rng.integers(1, 3))
    return Facts(
        emotion=emotion,
        intensity=0.0 if emotion == "NEU" else intensity,
        face=face[0],
        face_intensity=0.0 if face[0] == "NEU" else face[1],
        voice=voice[0],
        voice_intensity=0.0 if voice[0] == "NEU" else voice[1],
        covered=part if is_covered else "",
        coarseness=coarseness if is_coarse else 1,
        exposure=float(difficulty.exposure * rng.uniform(-1, 1)),
        camera_noise=float(rng.uniform(0, difficulty.camera_noise)),
        signal_to_noise=float(difficulty.sound_noise + 30 * rng.random()),
        level=float(difficulty.microphone * rng.standard_normal()),
    )
