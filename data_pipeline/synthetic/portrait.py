"""The parts of a synthetic face that do not move: one portrait for each speaker and recording.

The portrait is painted from distance fields on a canvas of 448 × 448 pixels, twice the size of the frame.
The face is where VoxCeleb2's crop (rows 0–159, columns 32–191) expects it. For every frame, `features` paints
eyes, brows and mouth on it, and `frames` warps it with the motion of the head.
"""

from dataclasses import dataclass

import numpy as np

from data_pipeline.synthetic.person import Person

SIDE = 224  # frame side, pixels
SCALE = 2  # canvas pixels a frame pixel
CENTRE = (112.0, 84.0)  # the face's centre in the frame, (x, y)
DARKEST, BRIGHTEST = 24.0, 232.0  # sensor noise can be added without an overflow


@dataclass(frozen=True)
class Portrait:
    """A painted speaker.

    Attributes:
        canvas: float32 [448, 448, 3] RGB, without eyes, brows and mouth.
        light: brightness of red, green and blue, near 1; features painted later are multiplied by it.
        eye_y, brow_y, mouth_y: rows of the frame, pixels, where those features sit at rest.
    """

    canvas: np.ndarray
    light: np.ndarray
    eye_y: float
    brow_y: float
    mouth_y: float


def grid(left: float, top: float, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame coordinates x [1, w] and y [h, 1] of canvas pixels, float32, for a box given in frame pixels."""
    x = left + (np.arange(width * SCALE, dtype=np.float32)[None] + 0.5) / SCALE
    y = top + (np.arange(height * SCALE, dtype=np.float32)[:, None] + 0.5) / SCALE
    return x, y


def paint(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray | tuple[float, float, float]) -> None:
    """Blends a colour (or a picture) into ``picture`` [h, w, 3] in place where ``mask`` [h, w] is above 0."""
    for channel in range(3):
        part = (
            colour[..., channel] if isinstance(colour, np.ndarray) and colour.ndim == 3 else colour[channel]
        )
        picture[..., channel] += mask * (part - picture[..., channel])


def soft(distance: np.ndarray, edge: float = 0.8) -> np.ndarray:
    """Mask from a signed distance in pixels: 1 inside (negative), 0 outside, blurred over `edge` pixels."""
    return np.clip(0.5 - distance * (1 / edge), 0, 1)


def bump(distance: np.ndarray, breadth: float) -> np.ndarray:
    """Gaussian of a distance: 1 at distance 0, 0.6 at `breadth`."""
    return np.exp(np.square(distance) * (-0.5 / breadth**2))


def ellipse(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    """Signed distance to an ellipse, accurate near its edge."""
    u, v = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1]
    r = np.sqrt(u * u + v * v) + 1e-6
    return (r - 1) * r / (np.sqrt(np.square(u / radii[0]) + np.square(v / radii[1])) + 1e-6)


def mottle(rng: np.random.Generator, cell_x: float, cell_y: float) -> np.ndarray:
    """Smooth noise of unit variance on the canvas, [448, 448] float32; cells in frame pixels."""
    across, down = int(SIDE / cell_x) + 2, int(SIDE / cell_y) + 2
    coarse = rng.standard_normal((down, across)).astype(np.float32)
    at_x, at_y = np.linspace(0, across - 1.001, SIDE * SCALE), np.linspace(0, down - 1.001, SIDE * SCALE)
    x0, y0 = at_x.astype(int), at_y.astype(int)
    fx, fy = (at_x - x0).astype(np.float32), (at_y - y0).astype(np.float32)[:, None]
    rows = coarse[y0] * (1 - fy) + coarse[y0 + 1] * fy
    return rows[:, x0] * (1 - fx) + rows[:, x0 + 1] * fx


def face_distance(person: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the outline of the face: an ellipse whose lower half narrows to the jaw."""
    below = np.clip((y - CENTRE[1]) / person.face_height, 0, 1.2)
    narrowing = 1 - (1 - person.jaw) * below**1.5
    wide = CENTRE[0] + (x - CENTRE[0]) / narrowing
    return ellipse(wide, y, CENTRE, (person.face_width, person.face_height))


def draw_portrait(person: Person, light: np.ndarray | None, rng: np.random.Generator) -> Portrait:
    """Paints a speaker in one recording.

    Args:
        person: the speaker.
        light: factors on red, green and blue; None for the white light of a studio.
        rng: draws background, clothes, strength of the light and grain.
    """
    x, y = grid(0, 0, SIDE, SIDE)
    canvas = _background(rng)
    side_light = float(rng.uniform(-0.35, 0.35))
    _hair_behind(canvas, person, x, y, rng)
    _body(canvas, person, x, y, rng)
    _head(canvas, person, x, y, side_light, rng)
    _nose(canvas, person, x, y)
    _beard(canvas, person, x, y, rng)
    _hair_before(canvas, person, x, y, rng)
    light = rng.uniform(0.86, 1.08) * (np.ones(3) if light is None else light)
    canvas *= light.astype(np.float32)
    np.clip(canvas, DARKEST, BRIGHTEST, out=canvas)
    eye_y = CENTRE[1] - 0.14 * person.face_height
    return Portrait(
        canvas=canvas,
        light=light,
        eye_y=eye_y,
        brow_y=eye_y - 12.5,
        mouth_y=CENTRE[1] + 0.53 * person.face_height,
    )


def _background(rng: np.random.Generator) -> np.ndarray:
    """A wall with a gradient, a few blurred shapes and grain."""
    x, y = grid(0, 0, SIDE, SIDE)
    wall = rng.uniform(50, 190, 3) * 0.4 + rng.uniform(60, 180) * 0.6
    slope = rng.uniform(-0.15, 0.15, 2)
    shade = (
        1
        + slope[0] * (x / 112 - 1)
        + slope[1] * (y / 112 - 1)
        + 0.02 * mottle(rng, 3, 3)
        + 0.03 * mottle(rng, 1.2, 1.2)
    )
    canvas = shade[..., None].astype(np.float32) * wall.astype(np.float32)
    for _ in range(rng.integers(2, 6)):
        centre, half = rng.uniform(0, SIDE, 2), rng.uniform(10, 45, 2)
        edge = np.maximum(np.abs(x - centre[0]) - half[0], np.abs(y - centre[1]) - half[1])
        paint(
            canvas,
            soft(edge, rng.uniform(2, 12)) * 0.8,
            0.5 * rng.uniform(30, 210, 3) + 0.5 * rng.uniform(30, 210),
        )
    return canvas


def _strands(person: Person, rng: np.random.Generator) -> np.ndarray:
    """Hair colour with strands, [448, 448, 3]."""
    grain = 1 + 0.18 * mottle(rng, 1.3, 24) + 0.10 * mottle(rng, 5, 30)
    return grain[..., None] * np.array(person.hair, np.float32)


def _hair_behind(
    canvas: np.ndarray, person: Person, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    if person.hair_length == 0:
        return
    top, breadth = CENTRE[1] - 8, person.face_width + 7 + 4 * person.hair_length
    distance = ellipse(x, y, (CENTRE[0], top), (breadth, person.face_height + 9))
    if person.hair_length < 1:  # ends at the ears
        distance = np.maximum(distance, y - CENTRE[1] - 12 + 0.15 * np.abs(x - CENTRE[0]))
    else:  # falls to the shoulders
        curtain = np.maximum(
            np.abs(x - CENTRE[0]) - breadth - 3 * np.sin(y / 19), np.maximum(top - y, y - 188)
        )
        distance = np.minimum(distance, curtain)
    paint(canvas, soft(distance, 2.5), _strands(person, rng) * 0.72)


def _body(canvas: np.ndarray, person: Person, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    chin, skin = CENTRE[1] + person.face_height, np.array(person.skin, np.float32)
    neck = np.maximum(np.abs(x - CENTRE[0]) - person.face_width * (0.52 + 0.06 * person.size), chin - 40 - y)
    shade = 0.84 - 0.22 * bump(np.maximum(y - chin, 0), 12)
    paint(canvas, soft(neck, 1.5), np.broadcast_to(shade, neck.shape)[..., None] * skin)
    cloth = 0.5 * rng.uniform(25, 200, 3) + 0.5 * rng.uniform(25, 170)
    weave = 1 + 0.06 * mottle(rng, 1.2, 1.2) + 0.08 * np.sin(x / rng.uniform(2, 9) + y / rng.uniform(4, 40))
    shoulders = ellipse(x, y, (CENTRE[0], 244), (98 + 10 * person.size, 70))
    collar = ellipse(x, y, (CENTRE[0], chin + 10), (person.face_width * 0.62, 24))
    paint(canvas, soft(np.maximum(shoulders, -collar), 1.5), weave[..., None] * cloth.astype(np.float32))


def _head(
    canvas: np.ndarray, person: Person, x: np.ndarray, y: np.ndarray, side: float, rng: np.random.Generator
) -> None:
    """Ears and face, shaded as a rounded body, with sockets, cheekbones, and lines by age."""
    skin = np.array(person.skin, np.float32)
    for ear in (-1, 1):
        centre = (CENTRE[0] + ear * (person.face_width + 1), CENTRE[1] + 2)
        paint(canvas, soft(ellipse(x, y, centre, (5, 13)), 1.2), skin * 0.82)
    u, v = (x - CENTRE[0]) / person.face_width, (y - CENTRE[1]) / person.face_height
    bulge = np.sqrt(np.clip(1.06 - u * u - 0.85 * v * v, 0.02, 1))
    shade = 0.58 + 0.46 * bulge + 0.16 * side * u - 0.05 * v
    shade += 0.026 * mottle(rng, 1.1, 1.1) + 0.018 * mottle(rng, 3, 3) + 0.012 * mottle(rng, 14, 14)
    across = np.abs(x - CENTRE[0])
    eye_y = CENTRE[1] - 0.14 * person.face_height
    shade -= 0.13 * bump(across - person.eye_gap, 10) * bump(y - eye_y + 2, 7)  # sockets
    shade -= 0.05 * (0.4 + person.age) * bump(across - person.eye_gap, 8) * bump(y - eye_y - 10, 2.0)  # bags
    shade += 0.05 * bump(across - 27, 10) * bump(y - CENTRE[1] - 14, 9)  # cheekbones
    for line in range(3):
        crease = y - eye_y + 25 + 6 * line + 0.004 * across**2
        shade -= 0.09 * max(person.age - 0.4, 0) * bump(crease, 0.8) * bump(across, 20)
    face = shade[..., None] * skin
    flush = bump(across - 28, 11) * bump(y - CENTRE[1] - 20, 10)
    face[..., 0] *= 1 + 0.05 * flush
    face[..., 1:] *= 1 - 0.03 * flush[..., None]
    paint(canvas, soft(face_distance(person, x, y), 1.4), face)


def _nose(canvas: np.ndarray, person: Person, x: np.ndarray, y: np.ndarray) -> None:
    """Bridge, wings and nostrils of the nose, as light and shadow."""
    tip = CENTRE[1] + 0.18 * person.face_height
    across, half = np.abs(x - CENTRE[0]), person.nose_width
    along = np.clip((y - (tip - person.nose_length)) / person.nose_length, 0, 1)
    length = soft(tip - person.nose_length - y, 12) * soft(y - tip, 4)
    shade = 0.07 * bump(across, 2.6) * length - 0.10 * bump(across - 3.5 - 3.0 * along, 2.2) * length
    shade += 0.06 * bump(across, 4) * bump(y - tip + 2, 4)
    shade -= 0.22 * bump(across - half, 1.6) * bump(y - tip - 0.5, 4)  # wings
    shade -= 0.12 * bump(across, half * 0.8) * bump(y - tip - 6, 2.2)  # shadow under the tip
    shade -= 0.06 * bump(across, 2.0) * bump(y - tip - 11, 4)  # philtrum
    canvas *= 1 + shade[..., None]
    nostril = bump(across - half * 0.5, 2.0) * bump(y - tip - 3.5, 1.3)
    paint(canvas, 0.8 * nostril, np.array(person.skin) * 0.3)


def _beard(
    canvas: np.ndarray, person: Person, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    if person.beard == 0:
        return
    v = (y - CENTRE[1]) / person.face_height
    inside = soft(face_distance(person, x, y) - 1, 2)
    cheek = np.abs(x - CENTRE[0]) / person.face_width
    region = inside * np.clip((v - 0.28 + 0.25 * (cheek - 0.5)) * 8, 0, 1)
    stubble = np.clip(0.55 + 0.30 * mottle(rng, 0.9, 1.6), 0, 1)
    paint(canvas, region * stubble * (0.25 + 0.6 * person.beard), np.array(person.hair) * 0.9)


def _hair_before(
    canvas: np.ndarray, person: Person, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    """Hair above the hairline, which `fringe` lowers, and at the temples."""
    if person.hair_length == 0:
        return
    cap = ellipse(x, y, (CENTRE[0], CENTRE[1] - 8), (person.face_width + 5, person.face_height + 7))
    line = CENTRE[1] - person.face_height * (0.74 - 0.22 * person.fringe)
    u = (x - CENTRE[0]) / person.face_width
    parting = 5 * np.sin(3 * u + 6 * person.fringe)
    hairline = line + parting + 16 * u**4 + (26 * np.clip(np.abs(u) - 0.8, 0, 1) * 6 * person.hair_length)
    paint(canvas, soft(np.maximum(cap, y - hairline), 2.0), _strands(person, rng))
