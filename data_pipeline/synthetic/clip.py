"""One synthetic clip: picture and sound of a person who says something in a mood."""

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.synthetic.camera import film
from data_pipeline.synthetic.difficulty import Difficulty, Facts, draw_facts
from data_pipeline.synthetic.frames import render
from data_pipeline.synthetic.microphone import record
from data_pipeline.synthetic.motion import perform
from data_pipeline.synthetic.person import MOODS, Emotion, Person, make_person
from data_pipeline.synthetic.portrait import Portrait, draw_portrait
from data_pipeline.synthetic.scene import Scene, make_scene
from data_pipeline.synthetic.speech import SENTENCES, articulate, babble
from data_pipeline.synthetic.style import Style, draw_factors, express, make_style
from data_pipeline.synthetic.voice import RATE, synthesise

FPS = 25


@dataclass(frozen=True)
class ClipSpec:
    """Identifies a clip: its picture and sound are a function of only these values.

    Attributes:
        seed: of the corpus.
        corpus: name of the corpus, so that two corpora of one seed have different people.
        speaker: number of the speaker; (seed, corpus, speaker) decide face and voice.
        recording: number of the recording session; it decides scene, background, clothes and microphone.
        take: number of the clip within the recording.
        emotion: one of `EMOTIONS`.
        intensity: of the emotion, 1 for the usual strength; not used with a difficulty, which draws it.
        sentence: one of CREMA-D's codes; None for nonsense syllables.
        seconds: duration; None for the duration of the sentence.
        noise: standard deviation of the camera's noise, 0–255 units.
        studio: whether it is recorded in white light and silence; if not, the recording has a scene.
        difficulty: what makes the emotion hard to tell; None for the same clear expression in all speakers.
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
    difficulty: Difficulty | None = None


def stream(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """Returns the random stream of a name and numbers, independent of all others."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *numbers])


def person_of(seed: int, corpus: str, speaker: int) -> Person:
    """Returns a speaker's traits, the same in every clip."""
    return make_person(stream(seed, f"{corpus}/person", speaker))


@lru_cache(maxsize=2)  # clips of a recording are made one after the other and share the portrait
def _portrait_of(seed: int, corpus: str, speaker: int, recording: int, scene: Scene | None) -> Portrait:
    person = person_of(seed, corpus, speaker)
    light = None if scene is None else scene.light()
    return draw_portrait(person, light, stream(seed, f"{corpus}/portrait", speaker, recording))


def scene_of(spec: ClipSpec) -> Scene | None:
    """Returns the scene of the clip's recording; None for a studio."""
    if spec.studio:
        return None
    return make_scene(stream(spec.seed, f"{spec.corpus}/scene", spec.speaker, spec.recording))


def style_of(seed: int, corpus: str, speaker: int, difficulty: Difficulty) -> Style:
    """Returns a speaker's habits, the same in every clip of a corpus."""
    return make_style(difficulty.habits, difficulty.rest, stream(seed, f"{corpus}/style", speaker))


def facts_of(spec: ClipSpec) -> Facts:
    """Returns what is drawn for a clip with a difficulty.

    Raises:
        ValueError: the clip has no difficulty.
    """
    if spec.difficulty is None:
        raise ValueError("a clip without a difficulty has no facts: give `difficulty`")
    place = (spec.speaker, spec.recording, spec.take)
    return draw_facts(spec.emotion, spec.difficulty, stream(spec.seed, f"{spec.corpus}/facts", *place))


def expressions_of(spec: ClipSpec) -> tuple[Emotion, Emotion]:
    """Returns the states of face and voice in a clip, as differences from the average speaker's at rest."""
    if spec.difficulty is None:
        mood = MOODS[spec.emotion].scaled(spec.intensity)
        return mood, mood
    facts = facts_of(spec)
    style = style_of(spec.seed, spec.corpus, spec.speaker, spec.difficulty)
    place = (spec.speaker, spec.recording, spec.take)
    factors = draw_factors(spec.difficulty.variety, stream(spec.seed, f"{spec.corpus}/factors", *place))
    face = MOODS[facts.face].scaled(facts.face_intensity)
    voice = MOODS[facts.voice].scaled(facts.voice_intensity)
    return express(face, style, factors), express(voice, style, factors)


def make_clip(spec: ClipSpec) -> tuple[np.ndarray, np.ndarray]:
    """Makes a clip.

    Returns:
        Frames, uint8 RGB [T, 224, 224, 3] at 25 a second; and sound, float32 [640 T] at 16 kHz in (−1, 1).

    Raises:
        ValueError: the clip has neither a sentence nor a duration.
    """
    person = person_of(spec.seed, spec.corpus, spec.speaker)
    face, voice = expressions_of(spec)
    place = (spec.speaker, spec.recording, spec.take)
    rng = stream(spec.seed, f"{spec.corpus}/clip", *place)
    if spec.sentence:
        text = SENTENCES[spec.sentence]
    elif spec.seconds is not None:
        text = babble(spec.seconds, rng)
    else:
        raise ValueError("a clip without a sentence needs a duration: give `seconds`")
    speech = articulate(text, person, voice, rng, spec.seconds)
    scene = scene_of(spec)
    if scene is None:
        room = stream(spec.seed, f"{spec.corpus}/room", spec.speaker, spec.recording).uniform(5e-4, 4e-3)
        ambience: np.ndarray | float = 0.0
    else:
        room = 0.0
        length = round(speech.seconds * RATE)
        ambience = scene.ambience(length, stream(spec.seed, f"{spec.corpus}/ambience", *place))
    samples = synthesise(speech, person, voice, room, rng, ambience)
    motion = perform(speech, person, face, FPS, rng)
    portrait = _portrait_of(spec.seed, spec.corpus, spec.speaker, spec.recording, scene)
    frames = render(portrait, person, motion, spec.noise, rng)
    if spec.difficulty is None:
        return frames, samples
    facts = facts_of(spec)
    frames = film(frames, facts, portrait, stream(spec.seed, f"{spec.corpus}/camera", *place))
    return frames, record(samples, facts, stream(spec.seed, f"{spec.corpus}/microphone", *place))
