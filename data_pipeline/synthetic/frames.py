"""Frames of a talking face: the portrait with the features of the frame, moved with the head, plus grain.

The motion of the head is a displacement field over the frame: shift and roll fade out around the head, yaw
and nod move the middle of the face relative to its outline, and the jaw stretches the chin. Each pixel of a
frame is the nearest pixel of the portrait, which is accurate enough at the portrait's double resolution.
"""

from functools import lru_cache

import numpy as np

from data_pipeline.synthetic.features import Eye, Mouth
from data_pipeline.synthetic.motion import Motion
from data_pipeline.synthetic.person import Person
from data_pipeline.synthetic.portrait import CENTRE, SCALE, SIDE, Portrait, bump, ellipse, face_distance, soft

CANVAS = SIDE * SCALE


def render(
    portrait: Portrait, person: Person, motion: Motion[np.ndarray], noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Renders a clip.

    Args:
        portrait: the still picture; its canvas is not changed.
        person: whose features to paint.
        motion: T frames of movement.
        noise: standard deviation of the sensor noise, 0–255 units, at most 6.
        rng: draws the noise of each frame.

    Returns:
        uint8 RGB [T, 224, 224, 3].
    """
    boxes: list[Mouth | Eye] = [Mouth(portrait, person), Eye(portrait, person, -1), Eye(portrait, person, 1)]
    fields = _fields(person)
    canvas = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    canvas[..., :3] = portrait.canvas
    pixels = canvas.view(np.uint32).reshape(-1)
    grain = _grain(noise)
    starts = rng.integers(0, len(grain) - SIDE * SIDE, len(motion))
    frames = np.empty((len(motion), SIDE, SIDE, 3), np.uint8)
    for index in range(len(motion)):
        pose = motion.frame(index)
        for box in boxes:
            feature = box.draw(pose)
            for channel in range(3):
                canvas[(*box.place, channel)] = feature[channel]
        picture = pixels.take(_lookup(fields, pose)).view(np.uint8).reshape(-1, 4)
        # Two's complement: to add −3 to uint8, add 253. The portrait's range prevents an overflow.
        picture += grain[starts[index] : starts[index] + SIDE * SIDE]
        for channel in range(3):  # five times as fast as copying [..., :3] at once
            frames[index, ..., channel] = picture[:, channel].reshape(SIDE, SIDE)
    return frames


def _fields(person: Person) -> dict[str, np.ndarray]:
    """Where each kind of motion acts, float32 [224, 224]."""
    x = np.arange(SIDE, dtype=np.float32)[None] + 0.5
    y = np.arange(SIDE, dtype=np.float32)[:, None] + 0.5
    outside = ellipse(x, y, CENTRE, (person.face_width + 12, person.face_height + 14))
    u, v = (x - CENTRE[0]) / person.face_width, (y - CENTRE[1]) / person.face_height
    chin = CENTRE[1] + person.face_height
    below_lips = CENTRE[1] + 0.66 * person.face_height
    jaw = np.clip((y - below_lips) / 8, 0, 1) * soft(y - chin - 14, 24)
    fields = {
        "x": np.broadcast_to(x, (SIDE, SIDE)),
        "y": np.broadcast_to(y, (SIDE, SIDE)),
        "head": bump(np.maximum(outside, 0), 16),
        "depth": np.sqrt(np.clip(1.05 - u * u - v * v, 0, 1)),
        "jaw": jaw * bump(u, 0.55) * soft(face_distance(person, x, y) - 8, 16),
    }
    return {name: field.astype(np.float32) for name, field in fields.items()}


def _lookup(fields: dict[str, np.ndarray], pose: Motion[float]) -> np.ndarray:
    """Flat canvas index of every frame pixel, int32 [224 · 224]."""
    x, y, head, depth = fields["x"], fields["y"], fields["head"], fields["depth"]
    roll, nod = np.float32(pose.roll), np.float32(pose.nod)
    from_x = x - head * (np.float32(pose.shift_x + pose.roll * CENTRE[1]) - roll * y)
    from_x -= depth * np.float32(pose.yaw)
    from_y = y - head * (np.float32(pose.shift_y - pose.roll * CENTRE[0]) + roll * x)
    from_y -= depth * nod
    from_y -= fields["jaw"] * np.float32(0.45 * pose.opening)
    row = np.clip(from_y * SCALE, 0, CANVAS - 1).astype(np.int32)
    column = np.clip(from_x * SCALE, 0, CANVAS - 1).astype(np.int32)
    return (row * CANVAS + column).reshape(-1)


@lru_cache(maxsize=2)
def _grain(noise: float) -> np.ndarray:
    """A long strip of sensor noise, mostly the same in all channels, uint8 [n, 4] in two's complement."""
    if not 0 <= noise <= 6:
        raise ValueError(f"sensor noise must be between 0 and 6, got {noise}")
    rng = np.random.default_rng(0)  # the same strip in every process; frames use different parts
    length = SIDE * SIDE * 4
    grey, colour = rng.standard_normal((length, 1)), rng.standard_normal((length, 4))
    values = np.clip(noise * (0.9 * grey + 0.44 * colour), -22, 22)
    return np.rint(values).astype(np.int8).view(np.uint8)
