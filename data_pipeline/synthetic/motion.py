"""How a face moves during speech in a mood: one number a frame for each movable part."""

from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np

from data_pipeline.synthetic.person import Emotion, Person
from data_pipeline.synthetic.speech import TRACK_RATE, Articulation, smooth

WIDEST = 11.0  # pixels between the lips in a neutral, fully open vowel

Numbers = TypeVar("Numbers", np.ndarray, float)


@dataclass(frozen=True)
class Motion(Generic[Numbers]):
    """Movement of a clip (each field a float64 [T] track at the frame rate) or of a frame (plain numbers).

    Lengths are in pixels of the frame, x to the right, y down.
    """

    opening: Numbers  # between the lips
    spread: Numbers  # −1 rounded … 1 spread
    smile: Numbers  # corners of the mouth up
    stretch: Numbers  # breadth of the mouth, relative
    lip_raise: Numbers
    wrinkle: Numbers  # 0 … 1
    brow_raise: Numbers
    brow_inner: Numbers
    frown: Numbers  # 0 … 1
    lids: Numbers  # opening of the eyes: 1 at rest, 0 closed
    gaze_x: Numbers
    gaze_y: Numbers
    shift_x: Numbers  # of the whole head
    shift_y: Numbers
    roll: Numbers  # radians
    yaw: Numbers  # shift of the nose relative to the outline of the face
    nod: Numbers

    def __len__(self: "Motion[np.ndarray]") -> int:
        """Number of frames."""
        return len(self.opening)

    def frame(self: "Motion[np.ndarray]", index: int) -> "Motion[float]":
        """The movement of one frame. Python numbers, unlike float64, leave float32 pictures float32."""
        return Motion(**{field.name: float(getattr(self, field.name)[index]) for field in fields(self)})


def perform(
    speech: Articulation, person: Person, emotion: Emotion, fps: int, rng: np.random.Generator
) -> Motion[np.ndarray]:
    """Moves a face to an utterance: the mouth by its articulation, the rest by mood, stress and chance.

    Args:
        speech: articulation tracks; frame t shows their state at (t + ½) / fps.
        person: older people move a little less.
        emotion: resting pose and liveliness.
        fps: frames a second.
        rng: head motion, blinks, gaze.

    Returns:
        Tracks of round(seconds × fps) frames.
    """
    count = round(speech.seconds * fps)
    at = (np.arange(count) + 0.5) / fps * TRACK_RATE - 0.5
    steps = np.arange(len(speech.voice))
    opening, spread, voice = (
        np.interp(at, steps, track) for track in (speech.opening, speech.spread, speech.voice)
    )
    loud = float(np.clip(1 + 0.055 * emotion.energy, 0.5, 1.5))
    lively = (1 + emotion.motion) * (1.1 - 0.2 * person.age)
    stress = smooth(voice, 0.3 * fps)
    strength = np.clip(0.95 + 0.12 * _wander(count, 1.2 * fps, rng), 0.6, 1.2)

    def sway(amplitude: float, seconds: float) -> np.ndarray:
        return amplitude * lively * _wander(count, seconds * fps, rng)

    gaze_x, gaze_y = _gaze(count, fps, rng)
    return Motion(
        opening=WIDEST * loud * opening,
        spread=spread,
        smile=emotion.smile * strength,
        stretch=emotion.stretch * strength,
        lip_raise=emotion.lip_raise * strength,
        wrinkle=emotion.wrinkle * strength,
        brow_raise=emotion.brow_raise * strength + 1.2 * lively * (stress - 0.4),
        brow_inner=emotion.brow_inner * strength,
        frown=emotion.frown * strength,
        lids=np.clip(1 + emotion.lids * strength, 0.1, 1.6) * _blinks(count, fps, rng),
        gaze_x=gaze_x,
        gaze_y=gaze_y + max(0.0, 0.5 * emotion.nod),
        shift_x=sway(1.5, 1.0) + emotion.tremble * rng.standard_normal(count),
        shift_y=sway(1.2, 0.9) + 0.5 * emotion.nod + emotion.tremble * rng.standard_normal(count),
        roll=emotion.tilt_head * strength + sway(0.02, 1.3),
        yaw=sway(2.2, 1.4),
        nod=emotion.nod * strength + sway(1.0, 0.8) + 2.0 * lively * (stress - 0.4),
    )


def _wander(count: int, frames: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit variance, [count], with a correlation time of ``frames``."""
    half = max(1, round(frames))
    kernel = np.hanning(2 * half + 3)[1:-1]
    noise = rng.standard_normal(count + 2 * half)
    return np.convolve(noise, kernel / np.sqrt(np.sum(kernel**2)), mode="valid")


def _blinks(count: int, fps: int, rng: np.random.Generator) -> np.ndarray:
    """1 for open eyes, 0 for closed ones; a blink takes 0.24 s and comes about every three seconds."""
    open_share = np.ones(count)
    start = rng.exponential(2.0) * fps
    while start < count:
        distance = np.abs(np.arange(count) - start) / (0.12 * fps)
        open_share = np.minimum(open_share, np.clip(distance * 1.3 - 0.3, 0, 1))
        start += (0.8 + rng.exponential(2.2)) * fps
    return open_share


def _gaze(count: int, fps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Fixations of about a second, mostly near the camera, with quick jumps between them."""
    number = int(count / fps) + 2
    ends = np.cumsum(rng.uniform(0.5, 1.8, number) * fps)
    fixation = np.minimum(np.searchsorted(ends, np.arange(count)), number - 1)
    x, y = rng.normal(0, 1.3, number), rng.normal(0, 0.5, number)
    return x[fixation], y[fixation]
