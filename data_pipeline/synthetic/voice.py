"""Sound of an utterance: a pulse train and noise through time-varying formants (Fant's source–filter model).

The filter works on short-time spectra: the source is cut into overlapping windows, each is multiplied by the
transfer function of its time, and the results are added. So a whole clip takes a few array operations.
"""

import numpy as np

from data_pipeline.synthetic.person import Emotion, Person
from data_pipeline.synthetic.speech import TRACK_RATE, Articulation

RATE = 16_000  # samples a second
WINDOW, HOP = 512, 128
LEVEL = 0.06  # root mean square of a neutral voice during speech, of full scale
BANDWIDTHS = (70.0, 100.0, 160.0, 220.0, 300.0)  # of the five formants, Hz
HIGH_FORMANTS = (3500.0, 4500.0)  # F4 and F5, the same in all phones


def synthesise(
    speech: Articulation,
    person: Person,
    emotion: Emotion,
    room: float,
    rng: np.random.Generator,
    ambience: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Speaks an utterance.

    Args:
        speech: articulation tracks, 200 Hz.
        person: resting pitch, formant factor, breath.
        emotion: loudness, brightness, breath, tremor (the tracks already contain its melody).
        room: root mean square of the background noise, of full scale.
        rng: jitter, shimmer, noise.
        ambience: all other sound, float64 [seconds × 16,000] of full scale.

    Returns:
        float32 [seconds × 16,000] in (−1, 1).
    """
    count = round(speech.seconds * RATE)
    at = (np.arange(count) + 0.5) * (TRACK_RATE / RATE) - 0.5
    steps = np.arange(len(speech.voice))
    voice = np.interp(at, steps, speech.voice)
    friction = np.interp(at, steps, speech.friction)

    pitch = _pitch(speech, person, emotion, rng)
    breath = person.breath + max(emotion.breath, 0.0)
    source = _pulses(np.interp(at, steps, pitch), rng)
    source += rng.standard_normal(count) * breath * 0.35
    source *= voice

    frame_at = np.arange(count // HOP + 1) * (HOP * TRACK_RATE / RATE) - 0.5
    voiced = _filtered(source, _vocal_tract(speech, frame_at, person, emotion))
    friction_sound = _filtered(
        rng.standard_normal(count) * friction, _friction_filter(speech, frame_at, person)
    )

    loudness = 10 ** (emotion.energy / 20)
    spoken = voiced[voice > 0.3]
    # A short clip of a slow speaker may end before the first voiced phone.
    voiced *= LEVEL / np.sqrt(np.mean(spoken**2) + 1e-12) if len(spoken) else 0.0
    background = np.convolve(rng.standard_normal(count), [0.25, 0.5, 0.25], mode="same")
    samples = loudness * (voiced + 0.25 * friction_sound) + room * background + ambience
    return np.tanh(samples).astype(np.float32)


def _pitch(speech: Articulation, person: Person, emotion: Emotion, rng: np.random.Generator) -> np.ndarray:
    """Fundamental frequency in Hz at the track rate."""
    time = np.arange(len(speech.melody)) / TRACK_RATE
    tremor = emotion.tremor * np.sin(2 * np.pi * (6 * time + rng.random()))
    jitter = rng.normal(0, 0.12, len(time))
    return person.pitch * 2 ** ((speech.melody + tremor + jitter) / 12)


def _pulses(pitch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One pulse a period, of equal power at every pitch; linear weights place it between two samples."""
    phase = np.cumsum(pitch) / RATE
    at = np.flatnonzero(np.diff(np.floor(phase), prepend=0.0))
    late = np.mod(phase[at], 1.0) * RATE / pitch[at]  # number of samples since the pulse
    strength = np.sqrt(RATE / pitch[at]) * (1 + 0.04 * rng.standard_normal(len(at)))
    out = np.zeros(len(pitch) + 1)
    out[at] += strength * (1 - late)
    out[at - 1] += strength * late
    return out[:-1]


def _at(track: np.ndarray, frame_at: np.ndarray) -> np.ndarray:
    return np.interp(frame_at, np.arange(len(track)), track)[:, None]


def _vocal_tract(speech: Articulation, frame_at: np.ndarray, person: Person, emotion: Emotion) -> np.ndarray:
    """Transfer function, complex [frames, WINDOW / 2 + 1]: glottal slope, tilt, five formants in cascade."""
    frequency = np.fft.rfftfreq(WINDOW, 1 / RATE)[None]
    delay = np.exp(-2j * np.pi * frequency / RATE)
    response = 1 / (1 + 1j * frequency / 500.0)  # −12 dB an octave at the glottis, + 6 at the lips
    response = response * np.maximum(frequency / 500.0, 0.2) ** (emotion.brightness / 6.02)
    response = response * (frequency > 50)
    moving = [_at(track, frame_at) for track in (speech.f1, speech.f2, speech.f3)]
    formants: list[np.ndarray | float] = [*moving, *HIGH_FORMANTS]
    for formant, bandwidth in zip(formants, BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * bandwidth / RATE)
        angle = 2 * np.pi * np.minimum(formant * person.tract, 7_400) / RATE
        b1, b2 = 2 * radius * np.cos(angle), radius**2
        response = response * ((1 - b1 + b2) / (1 - delay * (b1 - b2 * delay)))
    return response


def _friction_filter(speech: Articulation, frame_at: np.ndarray, person: Person) -> np.ndarray:
    """One broad peak around the place of friction."""
    frequency = np.fft.rfftfreq(WINDOW, 1 / RATE)[None]
    centre = np.minimum(_at(speech.centre, frame_at) * person.tract, 7_000)
    return 1 / (1 + ((frequency - centre) / (0.28 * centre)) ** 2)


def _filtered(source: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filters [n] by a response per hop, with square-root Hann windows before and after."""
    frames = len(response)
    padded = np.pad(source, (WINDOW // 2, WINDOW // 2 + frames * HOP - len(source)))
    window = np.sqrt(np.hanning(WINDOW + 1)[:-1])
    at = np.arange(frames)[:, None] * HOP + np.arange(WINDOW)
    pieces = np.fft.irfft(np.fft.rfft(padded[at] * window, axis=1) * response, axis=1) * window
    out = np.zeros((frames + WINDOW // HOP, HOP))
    for part in range(WINDOW // HOP):
        out[part : part + frames] += pieces[:, part * HOP : (part + 1) * HOP]
    gain = WINDOW / HOP / 2  # sum of the overlapping squared windows
    return out.reshape(-1)[WINDOW // 2 : WINDOW // 2 + len(source)] / gain
