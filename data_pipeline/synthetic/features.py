"""Eyes, brows and mouth, painted on a portrait for one frame.

Lids, brows and lips are curves y(x) over the columns of a small box, so that a mask compares every pixel's y
with a curve. Boxes are planar float32 [3, h, w] at the resolution of the canvas.
"""

from dataclasses import replace

import numpy as np

from data_pipeline.synthetic.motion import Motion
from data_pipeline.synthetic.person import Person
from data_pipeline.synthetic.portrait import BRIGHTEST, CENTRE, DARKEST, SCALE, Portrait, bump, grid, soft

DARK = np.array((32, 12, 14))  # inside the mouth
TEETH = np.array((226, 220, 206))
SCLERA = np.array((228, 224, 220))
EDGE = 0.9  # breadth of an anti-aliased edge, pixels


class Box:
    """A rectangle of the portrait in which one feature is painted for every frame."""

    def __init__(self, portrait: Portrait, left: float, top: float, width: int, height: int) -> None:
        """Cuts the box (frame pixels) out of the portrait."""
        left, top = round(left), round(top)
        self.x, self.y = grid(left, top, width, height)
        self.place = (
            slice(top * SCALE, (top + height) * SCALE),
            slice(left * SCALE, (left + width) * SCALE),
        )
        self.still = np.ascontiguousarray(portrait.canvas[self.place].transpose(2, 0, 1))
        self.light = portrait.light

    def paint(self, picture: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
        """Blends a colour, in the light of the portrait, into [3, h, w] in place."""
        lit = (colour * self.light).astype(np.float32)
        picture += mask * (lit[:, None, None] - picture)

    def finish(self, picture: np.ndarray) -> np.ndarray:
        """Clips [3, h, w] to the portrait's range and converts it to uint8."""
        return np.clip(picture, DARKEST, BRIGHTEST, out=picture).astype(np.uint8)


class Mouth(Box):
    """Lips, teeth, tongue and the folds beside the nose."""

    def __init__(self, portrait: Portrait, person: Person) -> None:
        """Prepares the box; lips take their colour from the skin."""
        super().__init__(portrait, CENTRE[0] - 38, portrait.mouth_y - 24, 76, 52)
        self.person, self.row = person, portrait.mouth_y
        skin = np.array(person.skin)
        self.colour = skin * (0.84, 0.60, 0.60) + (14, 0, 4)
        across = np.abs(self.x - CENTRE[0])
        fold = across - (person.nose_width + 6 + 0.55 * (self.y - portrait.mouth_y + 22))
        self.folds = (bump(fold, 1.6) * bump(self.y - portrait.mouth_y + 8, 9)).astype(np.float32)
        self.dimple = (bump(across - person.mouth_width - 7, 3) * bump(self.y - self.row, 6)).astype(
            np.float32
        )

    def draw(self, pose: Motion[float]) -> np.ndarray:
        """Paints the mouth of one frame: uint8 [3, h, w]."""
        person, x, y = self.person, self.x[0] - CENTRE[0], self.y
        half = person.mouth_width * (1 + 0.17 * pose.spread + pose.stretch)
        s = np.clip(x / half, -1, 1)
        arc = np.sqrt(1 - s * s)
        middle = self.row + pose.smile * (0.35 - s * s) - 0.35 * max(pose.lip_raise, 0)
        upper = middle - (0.28 * pose.opening + 0.55 * max(pose.lip_raise, 0)) * arc
        lower = middle + 0.72 * pose.opening * arc
        gap = lower - upper
        lip = person.lip * (1 - 0.5 * pose.stretch - 0.2 * pose.spread - 0.12 * max(pose.frown, 0))
        bow = 1 - 0.28 * bump(s, 0.13) + 0.1 * bump(np.abs(s) - 0.3, 0.15)
        top = upper - lip * arc * bow
        bottom = lower + 1.3 * lip * arc

        picture = self.still.copy()
        depth = 0.30 * pose.wrinkle + 0.045 * max(pose.smile, 0)
        picture *= 1 - depth * self.folds - 0.012 * abs(pose.smile) * self.dimple
        picture *= 1 - 0.16 * bump(y - bottom - 3.5, 1.8) * arc  # shadow under the lower lip
        lips = soft(top - y, EDGE) * soft(y - bottom, EDGE) * (arc > 0)
        self.paint(picture, lips, self.colour)
        picture *= 1 + lips * (0.10 * bump(y - lower - 0.6 * lip, 1.2) - 0.10 * soft(y - upper, 1.5))
        inside = soft(upper - y, EDGE) * soft(y - lower, EDGE) * np.clip(gap, 0, 1)
        self.paint(picture, inside, DARK)
        tongue = inside * soft(lower - 0.38 * gap - y, 2.0) * np.clip((gap - 3) / 4, 0, 0.8)
        self.paint(picture, tongue, np.array((150, 74, 76)))
        length = np.minimum(4.2, (0.38 + 0.1 * max(pose.lip_raise, 0)) * gap)
        teeth = inside * soft(y - upper - length, EDGE) * soft(np.abs(s) - 0.82, 0.15)
        self.paint(picture, teeth, TEETH)
        line = 0.75 * bump(y - upper, 0.6) * (arc > 0.05) * np.clip(1.5 - gap, 0.25, 1)
        self.paint(picture, line, self.colour * 0.35)
        return self.finish(picture)


class Eye(Box):
    """An eye with its brow, the lines between the brows, and one side of the glasses."""

    def __init__(self, portrait: Portrait, person: Person, side: int) -> None:
        """Prepares the box; ``side`` is −1 for the eye on the picture's left, 1 for the right."""
        super().__init__(portrait, CENTRE[0] + (0 if side > 0 else -44), portrait.eye_y - 28, 44, 44)
        self.person, self.side, self.portrait = person, side, portrait
        r = side * (self.x - CENTRE[0])
        self.r, y = r, self.y - portrait.eye_y
        self.frown = (bump(r - 4.5, 1.1) * bump(y + 9, 5)).astype(np.float32)
        wing = bump(y - 5 + 0.5 * r, 1.2) + bump(y - 9 + 0.5 * r, 1.2)
        self.wrinkle = (wing * bump(r - 5, 4)).astype(np.float32)
        ring = np.abs(np.sqrt(((r - person.eye_gap) / 15.5) ** 2 + ((y - 1) / 11.5) ** 2) - 1) * 13 - 0.8
        bridge = np.maximum(np.abs(y + 1) - 0.9, r - person.eye_gap + 15)
        self.frame = soft(np.minimum(ring, bridge), EDGE) if person.glasses else None
        self.drawn: dict[tuple[float, ...], np.ndarray] = {}

    def draw(self, pose: Motion[float]) -> np.ndarray:
        """Paints eye and brow of one frame: uint8 [3, h, w].

        Eyes and brows move slowly and return to earlier positions. So a pose is rounded to invisibly small
        steps, and each rounded pose is painted once.
        """
        steps = {"brow_raise": 3, "brow_inner": 3, "frown": 8, "lids": 12, "smile": 1, "wrinkle": 8}
        rounded = {name: round(getattr(pose, name) * step) / step for name, step in steps.items()}
        key = (*rounded.values(), pose.gaze_x, pose.gaze_y)
        if key not in self.drawn:
            self.drawn[key] = self._draw(replace(pose, **rounded))
        return self.drawn[key]

    def _draw(self, pose: Motion[float]) -> np.ndarray:
        picture = self.still.copy()
        picture *= 1 - 0.4 * max(pose.frown, 0) * self.frown - 0.22 * max(pose.wrinkle, 0) * self.wrinkle
        self._eyeball(picture, pose)
        self._brow(picture, pose)
        if self.frame is not None:
            self.paint(picture, 0.85 * self.frame, np.array((40, 36, 38)))
        return self.finish(picture)

    def _eyeball(self, picture: np.ndarray, pose: Motion[float]) -> None:
        person, y, r = self.person, self.y - self.portrait.eye_y, self.r[0]
        s = np.clip((r - person.eye_gap) / person.eye_size, -1, 1)
        arc = np.sqrt(1 - s * s)
        height = 0.86 * person.eye_size
        raised = 0.04 * max(pose.smile, 0)  # a smiling cheek pushes the lower lid up
        lower = height * (0.38 - raised) * arc - 0.5 * s
        upper = lower - height * max(pose.lids - raised, 0) * arc * (0.75 + 0.25 * arc)
        crease = bump(y - upper + 2.6, 0.8) * arc
        picture *= 1 - 0.24 * crease
        ball = soft(upper - y, EDGE) * soft(y - lower, EDGE) * (arc > 0)
        self.paint(picture, ball, SCLERA)
        picture *= 1 - 0.35 * ball * bump(y - upper, 1.6)  # shadow of the lid
        centre_x, centre_y = person.eye_gap + self.side * pose.gaze_x, pose.gaze_y - 0.6
        radius = 0.50 * person.eye_size
        distance = np.sqrt((self.r - centre_x) ** 2 + (y - centre_y) ** 2)
        iris = ball * soft(distance - radius, EDGE)
        self.paint(picture, iris, np.array(person.iris) * 0.9)
        self.paint(
            picture, ball * soft(np.abs(distance - radius) - 0.4, EDGE) * 0.6, np.array(person.iris) * 0.4
        )
        self.paint(picture, ball * soft(distance - 0.45 * radius, EDGE), np.array((24, 22, 24)))
        glint = np.sqrt((self.r - centre_x + 1.5 * self.side) ** 2 + (y - centre_y + 1.7) ** 2)
        self.paint(picture, ball * soft(glint - 1.0, EDGE), np.array((245, 245, 245)))
        inside = arc > 0
        self.paint(
            picture, 0.85 * soft(np.abs(y - upper) - 0.65, EDGE) * inside, np.array(person.hair) * 0.35
        )
        self.paint(picture, 0.35 * soft(np.abs(y - lower) - 0.3, EDGE) * inside, np.array(person.skin) * 0.5)

    def _brow(self, picture: np.ndarray, pose: Motion[float]) -> None:
        person, r = self.person, self.r[0]
        inner, outer = 7.0 - 0.8 * max(pose.frown, 0), person.eye_gap + 15
        share = np.clip((r - inner) / (outer - inner), 0, 1)  # 0 at the nose, 1 at the temple
        arch = 2.6 * np.sin(np.pi * np.clip(share * 1.1 - 0.1, 0, 1)) - 1.2 * share
        curve = self.portrait.brow_y - pose.brow_raise * (0.7 + 0.3 * arch / 2.6) - arch
        curve = curve - pose.brow_inner * np.square(1 - share) + 0.35 * pose.brow_inner * share
        thickness = person.brow * np.sqrt(np.clip(share * 8, 0, 1) * np.clip((1 - share) * 2.2, 0, 1))
        mask = soft(np.abs(self.y - curve) - thickness, 1.6) * (thickness > 0)
        self.paint(picture, 0.85 * mask, np.array(person.hair) * 0.55)
