"""Where a recording was made: its light and its ambient sound, which depend on each other.

In real recordings, picture and sound share more than the speaker. Outdoors there is bright, cool daylight and
the noise of wind and traffic; indoors there are warm, dim lamps and silence. Fluorescent lamps are greenish
and hum at twice the frequency of the mains.
"""

from dataclasses import dataclass

import numpy as np

from data_pipeline.synthetic.voice import RATE

LAMPS, DAYLIGHT = np.array([0.84, 0.66, 0.46]), np.array([0.98, 1.08, 1.24])
FLUORESCENT = np.array([0.90, 1.12, 0.88])
QUIETEST, LOUDEST = 6e-4, 2e-2  # root mean square of the noise, of full scale
HUM = 1e-2  # root mean square of the strongest hum, of full scale
MAINS = 50.0  # Hz


@dataclass(frozen=True)
class Scene:
    """A place.

    Attributes:
        outdoors: from 0 (indoors) to 1 (outdoors).
        fluorescent: share of the light that is fluorescent, 0 to 1; the hum grows with its square.
    """

    outdoors: float
    fluorescent: float

    def light(self) -> np.ndarray:
        """Returns factors on red, green and blue, float64 [3]."""
        colour = LAMPS + (DAYLIGHT - LAMPS) * self.outdoors
        return colour * (1 + (FLUORESCENT - 1) * self.fluorescent)

    def ambience(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Returns the sound of the place without speech.

        Args:
            samples: number of samples, at 16 kHz.
            rng: draws the noise and the phases of the hum.

        Returns:
            float64 [samples] of full scale.
        """
        rush = np.convolve(rng.standard_normal(samples), [0.25, 0.5, 0.25], mode="same")
        level = QUIETEST * (LOUDEST / QUIETEST) ** self.outdoors
        at = np.arange(samples) / RATE
        partials = range(1, 13)
        hum = sum(np.sin(2 * np.pi * (2 * MAINS * n * at + rng.random())) / n**0.5 for n in partials)
        return level * rush / rush.std() + HUM * self.fluorescent**2 * hum / np.std(hum)


def make_scene(rng: np.random.Generator) -> Scene:
    """Draws a place, from indoors to outdoors; in half of the places the light is partly fluorescent."""
    outdoors = float(rng.random())
    is_lit = rng.random() < 0.5
    return Scene(outdoors, float(rng.uniform(0.3, 1)) * (1 - 0.5 * outdoors) if is_lit else 0.0)
