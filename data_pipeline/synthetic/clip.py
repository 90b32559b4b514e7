"""One made-up clip: a person says something in a mood, and is seen and heard doing so."""

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.synthetic.frames import render
from data_pipeline.synthetic.motion import perform
from data_pipeline.synthetic.person import MOODS, Person, make_person
from data_pipeline.synthetic.portrait import Portrait, draw_portrait
from data_pipeline.synthetic.scene import Scene, make_scene
from data_pipeline.synthetic.speech import SENTENCES, articulate, babble
from data_pipeline.synthetic.voice import RATE, synthesise

FPS = 25


@dataclass(frozen=True)
class ClipSpec:
    """Which clip: its picture and sound are a function of these values alone.

    Attributes:
        seed: of the corpus.
        corpus: name of the family of speakers, so that two corpora of one seed have different people.
        speaker: number of the speaker; face and voice hang on (seed, corpus, speaker).
        recording: number of the recording session; scene, background, clothes and microphone hang on it.
        take: number of the clip within the recording.
        emotion: one of `EMOTIONS`.
        intensity: of the emotion, 1 for the usual strength.
        sentence: one of CREMA-D's codes; None babbles.
        seconds: duration; None is as long as the sentence takes.
        noise: standard deviation of the camera's noise, 0–255 units.
        studio: recorded in white light and silence; else the recording has a scene.
    """

    seed: int
    corpus: str
    speaker: int
    recording: int
    take: int
    emotion: str
    intensity: float = 1.0
    sentence: str | None = None
    seconds: float | None = None
    noise: float = 3.5
    studio: bool = True


def stream(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """An independent random stream for a name and numbers."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *numbers])


def person_of(seed: int, corpus: str, speaker: int) -> Person:
    """The speaker's traits, the same in every clip."""
    return make_person(stream(seed, f"{corpus}/person", speaker))


@lru_cache(maxsize=2)  # clips of a recording are made one after the other and share the drawing
def _portrait_of(seed: int, corpus: str, speaker: int, recording: int, scene: Scene | None) -> Portrait:
    person = person_of(seed, corpus, speaker)
    light = None if scene is None else scene.light()
    return draw_portrait(person, light, stream(seed, f"{corpus}/portrait", speaker, recording))


def scene_of(spec: ClipSpec) -> Scene | None:
    """Where the clip's recording was made, None for a studio."""
    if spec.studio:
        return None
    return make_scene(stream(spec.seed, f"{spec.corpus}/scene", spec.speaker, spec.recording))


def make_clip(spec: ClipSpec) -> tuple[np.ndarray, np.ndarray]:
    """Makes a clip.

    Returns:
        frames: uint8 RGB [T, 224, 224, 3] at 25 a second.
        samples: float32 [n] at 16 kHz in (−1, 1), n = 640 T.
    """
    person = person_of(spec.seed, spec.corpus, spec.speaker)
    emotion = MOODS[spec.emotion].scaled(spec.intensity)
    place = (spec.speaker, spec.recording, spec.take)
    rng = stream(spec.seed, f"{spec.corpus}/clip", *place)
    text = SENTENCES[spec.sentence] if spec.sentence else babble(spec.seconds, rng)
    speech = articulate(text, person, emotion, rng, spec.seconds)
    scene = scene_of(spec)
    if scene is None:
        room = stream(spec.seed, f"{spec.corpus}/room", spec.speaker, spec.recording).uniform(5e-4, 4e-3)
        ambience: np.ndarray | float = 0.0
    else:
        room = 0.0
        length = round(speech.seconds * RATE)
        ambience = scene.ambience(length, stream(spec.seed, f"{spec.corpus}/ambience", *place))
    samples = synthesise(speech, person, emotion, room, rng, ambience)
    motion = perform(speech, person, emotion, FPS, rng)
    portrait = _portrait_of(spec.seed, spec.corpus, spec.speaker, spec.recording, scene)
    return render(portrait, person, motion, spec.noise, rng), samples
