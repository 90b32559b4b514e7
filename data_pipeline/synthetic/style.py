"""How a speaker looks and sounds at rest, and how they show a mood: both differ from speaker to speaker.

One person's neutral face has low brows, another's corners of the mouth hang; one speaks brightly, another
flatly. In the same mood, one person smiles with the mouth and another with the brows. So a weak mood of one
speaker can be the neutral state of another.
"""

from dataclasses import dataclass, fields

import numpy as np

from data_pipeline.synthetic.person import Emotion

# Standard deviation, over speakers, of the state at rest: units of `Emotion`.
REST = Emotion(
    brow_raise=1.2, brow_inner=1.2, frown=0.2, lids=0.12, smile=1.3, stretch=0.05, lip_raise=0.5,
    wrinkle=0.15, nod=1.2, tilt_head=0.03, motion=0.25, tremble=0.1, pitch=1.0, pitch_range=0.25, contour=1.2,
    tempo=0.08, energy=2.5, brightness=1.2, breath=0.06, tremor=0.1,
)  # fmt: skip
LARGEST_FACTOR = 1.5  # of a movement; larger ones would distort the face
LOWEST = {"tempo": -0.5, "pitch_range": -0.8, "motion": -0.8}  # slower or stiller than this is no speech
NEVER_NEGATIVE = ("frown", "lip_raise", "wrinkle", "tremble", "breath", "tremor")


@dataclass(frozen=True)
class Style:
    """Habits of a speaker.

    Attributes:
        rest: neutral face and voice, as differences from those of the average speaker.
        factors: how much of each movement the speaker uses to show a mood; 1 is usual.
    """

    rest: Emotion
    factors: Emotion


def make_style(variety: float, rest: float, rng: np.random.Generator) -> Style:
    """Draws a speaker's habits.

    Args:
        variety: half the breadth of the uniform distribution of the factors around 1, 0 … 1.
        rest: factor on the standard deviations `REST`; 0 gives every speaker the same neutral state.
        rng: the speaker's random stream.

    Returns:
        The habits.
    """
    state = {}
    for field in fields(Emotion):
        value = rest * getattr(REST, field.name) * rng.standard_normal()
        state[field.name] = float(abs(value) if field.name in NEVER_NEGATIVE else value)
    return Style(Emotion(**state), draw_factors(variety, rng))


def draw_factors(variety: float, rng: np.random.Generator) -> Emotion:
    """Draws one factor for each field of `Emotion`, uniform in 1 ± `variety`."""
    return Emotion(**{field.name: float(1 + variety * rng.uniform(-1, 1)) for field in fields(Emotion)})


def express(mood: Emotion, style: Style, factors: Emotion) -> Emotion:
    """Returns the state of a speaker in a mood.

    Args:
        mood: the mood, in the strength wanted.
        style: the speaker's habits.
        factors: of this clip alone, as a person does not show a mood twice in the same way.

    Returns:
        The state at rest plus the mood, each movement of which is scaled by both factors.
    """
    state = {}
    for field in fields(Emotion):
        factor = getattr(style.factors, field.name) * getattr(factors, field.name)
        value = getattr(style.rest, field.name) + getattr(mood, field.name) * min(factor, LARGEST_FACTOR)
        state[field.name] = max(value, LOWEST.get(field.name, -np.inf))
    return Emotion(**state)
