"""Phones, sentences, and the articulation tracks that drive both voice and mouth.

A phone is a row of targets (formants, voicing, friction, mouth). An utterance is a list of phones with
durations. Its tracks are constant over each phone, at 200 Hz, and then smoothed: this gives formant
transitions and lips that move from shape to shape. Formants of the vowels: Peterson & Barney (1952).
"""

import math
from dataclasses import dataclass

import numpy as np

from data_pipeline.synthetic.person import Emotion, Person

TRACK_RATE = 200  # control points a second

# Columns: F1, F2, F3 in Hz; voice and friction amplitude; friction centre in Hz; mouth opening 0–1; lip
# spread −1 (rounded) to 1; duration in seconds.
COLUMNS = ("f1", "f2", "f3", "voice", "friction", "centre", "opening", "spread", "duration")
PHONES = {
    "a": (730, 1090, 2440, 1.0, 0, 3000, 1.00, 0.0, 0.13),
    "æ": (660, 1720, 2410, 1.0, 0, 3000, 0.85, 0.3, 0.13),
    "e": (530, 1840, 2480, 0.95, 0, 3000, 0.60, 0.5, 0.11),
    "i": (300, 2290, 3010, 0.8, 0, 3000, 0.35, 1.0, 0.11),
    "o": (570, 840, 2410, 0.95, 0, 3000, 0.65, -0.7, 0.13),
    "u": (320, 870, 2240, 0.8, 0, 3000, 0.30, -1.0, 0.11),
    "ə": (560, 1400, 2390, 0.8, 0, 3000, 0.45, 0.0, 0.07),
    "ɜ": (490, 1350, 1690, 0.85, 0, 3000, 0.40, -0.2, 0.12),
    "m": (270, 1000, 2200, 0.35, 0, 3000, 0.00, 0.0, 0.07),
    "n": (280, 1600, 2500, 0.35, 0, 3000, 0.15, 0.1, 0.06),
    "l": (360, 1150, 2700, 0.55, 0, 3000, 0.25, 0.0, 0.06),
    "r": (360, 1200, 1600, 0.55, 0, 3000, 0.25, -0.4, 0.06),
    "w": (300, 700, 2300, 0.55, 0, 3000, 0.15, -1.0, 0.06),
    "j": (280, 2250, 3000, 0.55, 0, 3000, 0.20, 0.7, 0.05),
    "v": (300, 1300, 2300, 0.30, 0.05, 5000, 0.05, 0.1, 0.06),
    "z": (300, 1700, 2500, 0.20, 0.15, 6200, 0.10, 0.4, 0.07),
    "ð": (300, 1400, 2500, 0.30, 0.04, 5500, 0.15, 0.1, 0.05),
    "s": (300, 1700, 2500, 0, 0.30, 6300, 0.10, 0.4, 0.10),
    "ʃ": (300, 1700, 2400, 0, 0.32, 3300, 0.15, -0.6, 0.10),
    "f": (300, 1300, 2300, 0, 0.12, 5000, 0.05, 0.1, 0.09),
    "θ": (300, 1400, 2500, 0, 0.08, 5500, 0.15, 0.1, 0.08),
    "h": (560, 1400, 2400, 0, 0.12, 1600, 0.35, 0.0, 0.05),
    # Stops: a closure (silent, or a murmur) and then a burst.
    "p": (300, 900, 2200, 0, 0, 1000, 0.00, 0.0, 0.06),
    "t": (300, 1700, 2600, 0, 0, 4500, 0.10, 0.2, 0.05),
    "k": (300, 1800, 2200, 0, 0, 2000, 0.15, 0.0, 0.06),
    "b": (250, 900, 2200, 0.12, 0, 1000, 0.00, 0.0, 0.05),
    "d": (250, 1700, 2600, 0.12, 0, 4000, 0.10, 0.2, 0.04),
    "g": (250, 1800, 2200, 0.12, 0, 2000, 0.15, 0.0, 0.05),
    " ": (500, 1500, 2500, 0, 0, 3000, 0.02, 0.0, 0.02),  # between words
    ",": (500, 1500, 2500, 0, 0, 3000, 0.00, 0.0, 0.28),  # a breath
}
STOPS, VOWELS, ONSETS = "ptkbdg", "aæeiouəɜ", "mnlrwjvzðsʃfhptkbdg"
BURST = {"friction": 0.35, "seconds": 0.02}
FIELDS = {name: column for column, name in enumerate(COLUMNS)}

# CREMA-D's twelve sentences.
SENTENCES = {
    "IEO": "its ilevən əklak",
    "TIE": "ðæt iz igzæktli wat hæpənd",
    "IOM": "aim on mai wei tu ðə mitin",
    "IWW": "ai wandɜ wat ðis iz əbaut",
    "TAI": "ði eɜplein iz olmost ful",
    "MTI": "meibi təmoro it wil bi kold",
    "IWL": "ai wud laik ə nu əlam klak",
    "ITH": "ai θink ai hæv ə daktɜz əpointmənt",
    "DFA": "dont fɜget ə dʃækit",
    "ITS": "ai θink aiv sin ðis bifo",
    "TSI": "ðə sɜfəs iz slik",
    "WSI": "wil stap in ə kapəl əv minits",
}


@dataclass(frozen=True)
class Articulation:
    """The tracks of an utterance, each float64 [n] at 200 Hz."""

    f1: np.ndarray  # formants before the speaker's vocal tract scales them, Hz
    f2: np.ndarray
    f3: np.ndarray
    voice: np.ndarray  # amplitude of the voiced source, 0 … 1
    friction: np.ndarray  # amplitude of friction and bursts
    centre: np.ndarray  # where friction is strongest, Hz
    opening: np.ndarray  # of the mouth, 0 … 1
    spread: np.ndarray  # of the lips, −1 rounded … 1 spread
    melody: np.ndarray  # semitones from the speaker's resting pitch

    @property
    def seconds(self) -> float:
        """Duration in s."""
        return len(self.voice) / TRACK_RATE


def babble(seconds: float, rng: np.random.Generator) -> str:
    """Draws nonsense syllables that take at least ``seconds`` to speak at any tempo used here."""
    words = []
    for _ in range(int(4 * seconds) + 4):
        syllables = rng.integers(1, 4)
        word = "".join(rng.choice(list(ONSETS)) + rng.choice(list(VOWELS)) for _ in range(syllables))
        word += rng.choice(list("nmslrtk")) if rng.random() < 0.4 else ""
        words.append(word + ("," if rng.random() < 0.16 else " "))
    return "".join(words)


def articulate(
    text: str, person: Person, emotion: Emotion, rng: np.random.Generator, seconds: float | None = None
) -> Articulation:
    """Times the phones of a text and makes the tracks that drive voice and face.

    Args:
        text: phones of `PHONES`; a space separates words, a comma phrases.
        person: decides the tempo.
        emotion: changes tempo and melody.
        rng: draws durations and accents.
        seconds: duration to cut to, or to pad to with silence; None pads the text to whole fifths of a
            second, so that it ends with a video frame.
    """
    phones = [",", *text.strip(" ,"), ","]
    tempo = person.tempo * (1 + emotion.tempo)
    rows, accents, phrases = [], [], []
    phrase = 0
    for phone in phones:
        steps = max(2, round(PHONES[phone][-1] * TRACK_RATE * rng.uniform(0.8, 1.25) / tempo))
        block = np.tile(PHONES[phone][:-1], (steps, 1)).astype(np.float64)
        if phone in STOPS:
            burst = np.tile(block[-1], (round(BURST["seconds"] * TRACK_RATE), 1))
            burst[:, FIELDS["friction"]] = BURST["friction"] * (0.6 if phone in "bdg" else 1.0)
            block = np.concatenate([block, burst])
        accented = phone in VOWELS and rng.random() < 0.35
        rows.append(block)
        accents.append(np.full(len(block), rng.uniform(2, 5) if accented else 0.0))
        phrase += phone == ","
        phrases.append(np.full(len(block), phrase))
    tracks, accent, phrase_of = np.concatenate(rows), np.concatenate(accents), np.concatenate(phrases)
    melody = _melody(accent, phrase_of, emotion, rng)
    tracks[:, FIELDS["voice"]] *= 1 + 0.12 * np.minimum(accent, 3)
    if seconds is None:
        seconds = math.ceil(5 * len(tracks) / TRACK_RATE + 0.6) / 5
    tracks, melody = _fit(tracks, melody, round(seconds * TRACK_RATE))
    return _smoothed(tracks, melody)


def _melody(accent: np.ndarray, phrase: np.ndarray, emotion: Emotion, rng: np.random.Generator) -> np.ndarray:
    """Semitones at the track rate: a fall or rise over each phrase, accents on vowels, and slow drift."""
    position = np.concatenate([np.linspace(0, 1, np.sum(phrase == p)) for p in np.unique(phrase)])
    span = 1 + emotion.pitch_range
    knots = np.arange(0, len(accent) + 60, 60)  # 0.3 s apart
    drift = np.interp(np.arange(len(accent)), knots, rng.normal(0, 0.5, len(knots)))
    fall = 2.0 - 4.0 * position
    return (
        emotion.pitch + span * (smooth(accent, 0.16 * TRACK_RATE) + fall + drift) + emotion.contour * position
    )


def _fit(tracks: np.ndarray, melody: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts or pads the tracks to a number of steps; the last 0.12 s are silent."""
    quiet = np.tile(np.array(PHONES[","][:-1], np.float64), (steps, 1))
    spoken = min(len(tracks), steps - round(0.12 * TRACK_RATE))
    quiet[:spoken] = tracks[:spoken]
    return quiet, np.pad(melody[:spoken], (0, steps - spoken), mode="edge")


def _smoothed(tracks: np.ndarray, melody: np.ndarray) -> Articulation:
    width = {"voice": 0.035, "friction": 0.02, "centre": 0.02, "opening": 0.09, "spread": 0.11}
    columns = {
        name: smooth(tracks[:, FIELDS[name]], width.get(name, 0.055) * TRACK_RATE)
        for name in COLUMNS
        if name != "duration"
    }
    return Articulation(**columns, melody=smooth(melody, 0.06 * TRACK_RATE))


def smooth(track: np.ndarray, steps: float) -> np.ndarray:
    """Convolves a track [n] with a Hann window of about `steps` steps; pads with the end values."""
    half = max(1, round(steps / 2))
    kernel = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(np.pad(track, half, mode="edge"), kernel / kernel.sum(), mode="valid")
