"""Drawn cats and dogs: an unlimited, seeded supply of labelled pictures that need no account.

An animal is a few dozen lit ellipsoids. Only its anatomy, with the colours of eyes and nose, knows
the kind: coats, poses, cameras, lights and backgrounds come from the same distributions for both,
so that neither colour nor background tells a cat from a dog. Pixels are computed with + - * / and
square roots only, which IEEE 754 rounds the same way everywhere; sines per pixel would differ
between processors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

KINDS = ("cat", "dog")

_SIDE = 128
_FINE = 2 * _SIDE  # animals are drawn at twice the size and averaged down, for smooth edges
_TRAINING_START = 1_000_000_000
_BLOCK = 1_000_000

Vector = tuple[float, float, float]

# Colours are red, green, blue in 0..1.
_COATS: tuple[Vector, ...] = (
    (0.80, 0.50, 0.22), (0.48, 0.47, 0.48), (0.90, 0.87, 0.82), (0.46, 0.31, 0.20),
    (0.20, 0.19, 0.20), (0.72, 0.60, 0.44), (0.62, 0.40, 0.22), (0.66, 0.66, 0.68),
)  # fmt: skip
_WHITE: Vector = (0.93, 0.91, 0.87)
_DARK: Vector = (0.20, 0.16, 0.14)
_SCENERY: tuple[Vector, ...] = (
    (0.70, 0.62, 0.50), (0.52, 0.58, 0.46), (0.42, 0.48, 0.55), (0.62, 0.72, 0.80),
    (0.60, 0.57, 0.54), (0.58, 0.40, 0.33), (0.45, 0.34, 0.25), (0.36, 0.44, 0.27),
    (0.84, 0.80, 0.72), (0.38, 0.36, 0.42), (0.75, 0.66, 0.62), (0.30, 0.40, 0.42),
)  # fmt: skip
_GRASS: tuple[Vector, ...] = ((0.38, 0.48, 0.22), (0.50, 0.54, 0.28), (0.60, 0.55, 0.33))

# The regions of the body that each pattern paints in the coat's second colour.
_SECOND_COLOUR: dict[str, frozenset[str]] = {
    "plain": frozenset(),
    "tabby": frozenset(),
    "patches": frozenset({"muzzle", "chest"}),
    "bicolour": frozenset({"muzzle", "chest", "paw"}),
    "points": frozenset({"muzzle", "ear", "leg", "paw", "tail"}),
    "tuxedo": frozenset({"muzzle", "chest", "paw"}),
}
_FLOOR = {"cat": -1.6, "dog": -1.72}  # how far the ground is below the middle of the head
_GLOSS = {"eye": 0.8, "pupil": 0.8, "nose": 0.5, "tongue": 0.3}


@dataclass(frozen=True)
class _Part:
    """One ellipsoid; lengths in head sizes, x right, y up, z to the viewer, turns in radians."""

    surface: str  # a region of the coat, or a material of `_Look.materials`
    centre: Vector
    radii: Vector
    turn: Vector = (0.0, 0.0, 0.0)  # yaw, pitch, roll
    pointed: bool = False  # cut to a triangle with its tip at the top


@dataclass(frozen=True)
class _Look:
    """The colours of one animal."""

    pattern: str
    first: np.ndarray
    second: np.ndarray
    stripes: float  # per head size
    materials: dict[str, Vector]


@dataclass(frozen=True)
class _Frame:
    """Where a group of parts sits in the picture, which spans -1..1 both ways."""

    rotation: np.ndarray  # (3, 3)
    origin: np.ndarray  # (3,)
    scale: float


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    angles = [yaw, pitch, roll]
    # Rounded, since the last bit of a sine depends on the machine.
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles).round(9), np.sin(angles).round(9)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def _pair(part: _Part) -> list[_Part]:
    """The part and its mirror image on the other side of the animal."""
    (x, y, z), (yaw, pitch, roll) = part.centre, part.turn
    return [part, replace(part, centre=(-x, y, z), turn=(-yaw, pitch, -roll))]


def _pick(rng: np.random.Generator, options: tuple[Vector, ...], jitter: float) -> np.ndarray:
    colour = np.asarray(options[rng.integers(len(options))]) * rng.uniform(1 - jitter, 1 + jitter)
    return np.clip(colour * rng.normal(1, jitter / 6, 3), 0.03, 1).astype(np.float32)


def _cat_head(rng: np.random.Generator) -> list[_Part]:
    wide, ear, eye = rng.uniform((0.94, 0.88, 0.95), (1.06, 1.15, 1.15))
    spread = rng.uniform(0.2, 0.42)
    slit = rng.uniform(0.018, 0.045)
    parts = [
        _Part("head", (0, 0.02, 0), (0.50 * wide, 0.43, 0.42)),
        _Part("head", (0, 0.02, 0.33), (0.08, 0.18, 0.11), (0, -0.3, 0)),
        _Part("muzzle", (0, -0.29, 0.31), (0.11, 0.08, 0.1)),
        _Part("nose", (0, -0.105, 0.475), (0.058, 0.036, 0.03)),
        _Part("line", (0, -0.165, 0.49), (0.009, 0.04, 0.02)),
        *_pair(_Part("head", (0.25 * wide, -0.13, 0.08), (0.26, 0.22, 0.27))),
        *_pair(_Part("muzzle", (0.085, -0.19, 0.37), (0.125, 0.095, 0.12))),
        *_pair(_Part("line", (0.05, -0.225, 0.46), (0.055, 0.009, 0.03), (0, 0, 0.45))),
    ]
    eye_height = rng.uniform(0.085, 0.105) * eye
    for surface, size, z in (("line", 1.16, 0.325), ("eye", 1.0, 0.345)):
        radii = (0.115 * eye * size, eye_height * size, 0.085)
        parts += _pair(_Part(surface, (0.205, 0.06, z), radii, (0.25, 0, 0.15)))
    parts += _pair(_Part("pupil", (0.208, 0.06, 0.39), (slit, eye_height * 0.9, 0.05)))
    parts += [_Part("glint", (x + 0.035, 0.1, 0.44), (0.02, 0.02, 0.02)) for x in (-0.205, 0.205)]
    for surface, size, z in (("ear", 1.0, -0.04), ("inner ear", 0.68, 0.03)):
        radii = (0.26 * ear * size, 0.42 * ear * size, 0.09)
        turn = (0.15, 0.0, -spread)
        parts += _pair(_Part(surface, (0.31, 0.40, z), radii, turn, pointed=True))
    for tilt in (-0.22, -0.02, 0.18):
        angle = tilt + rng.normal(0, 0.06)
        length = rng.uniform(0.24, 0.32)
        centre = (0.14 + length * np.cos(angle), -0.18 + length * np.sin(angle), 0.40)
        parts += _pair(_Part("whisker", centre, (length, 0.0085, 0.0085), (0.3, 0, angle)))
    return parts


def _dog_ears(rng: np.random.Generator) -> list[_Part]:
    """Hanging ears, long, short or wide, or half-pricked ones whose tips fold over."""
    size = rng.uniform(0.9, 1.12)
    root = _Part("ear", (0.34, 0.39, -0.06), (0.15, 0.14, 0.1), (0, 0, -0.5))
    styles = (
        [_Part("ear", (0.46, -0.16, -0.02), (0.15 * size, 0.46 * size, 0.22))],
        [_Part("ear", (0.45, 0.09, 0.03), (0.12 * size, 0.30 * size, 0.2), (0, 0, 0.28))],
        [_Part("ear", (0.55, 0.05, -0.04), (0.16 * size, 0.36 * size, 0.14), (0, 0, 0.6))],
        [root, _Part("ear", (0.49, 0.30, 0.08), (0.15, 0.27 * size, 0.1), (0, 0, 0.5))],
    )
    chosen = rng.choice(len(styles), p=[0.35, 0.3, 0.2, 0.15])
    return [side for part in styles[chosen] for side in _pair(part)]


def _dog_head(rng: np.random.Generator) -> list[_Part]:
    wide, long, nose = rng.uniform((0.92, 0.85, 0.9), (1.06, 1.25, 1.15))
    tip = 0.30 + 0.44 * long
    parts = [
        _Part("head", (0, 0.10, 0), (0.43 * wide, 0.40, 0.42)),
        _Part("head", (0, 0.02, 0.30), (0.17, 0.18, 0.3), (0, 0.35, 0)),
        _Part("muzzle", (0, -0.14, 0.36), (0.22 * wide, 0.17, 0.40 * long)),
        _Part("muzzle", (0, -0.31, 0.36), (0.15, 0.08, 0.30 * long)),
        _Part("nose", (0, -0.05, tip + 0.08), (0.115 * nose, 0.085 * nose, 0.08)),
        _Part("line", (0, -0.18, tip + 0.11), (0.010, 0.075, 0.03)),
        *_pair(_Part("head", (0.2 * wide, -0.1, 0.1), (0.22, 0.24, 0.27))),
        *_pair(_Part("muzzle", (0.08, -0.17, tip - 0.03), (0.13, 0.115, 0.15))),
        *_pair(_Part("line", (0.085, -0.265, tip + 0.03), (0.1, 0.012, 0.06), (0, 0, 0.3))),
        *_pair(_Part("head", (0.19, 0.265, 0.3), (0.11, 0.05, 0.08), (0, 0, -0.35))),
        *_pair(_Part("lid", (0.19, 0.14, 0.335), (0.115, 0.115, 0.07))),
        *_pair(_Part("line", (0.19, 0.14, 0.35), (0.092, 0.092, 0.065))),
        *_pair(_Part("eye", (0.19, 0.14, 0.365), (0.08, 0.082, 0.07))),
        *_pair(_Part("pupil", (0.19, 0.14, 0.395), (0.048, 0.05, 0.05))),
        *_dog_ears(rng),
    ]
    parts += [_Part("glint", (x + 0.03, 0.18, 0.44), (0.02, 0.02, 0.02)) for x in (-0.19, 0.19)]
    if rng.random() < 0.45:
        parts.append(_Part("tongue", (0, -0.40, tip - 0.06), (0.075, 0.15, 0.05), (0, -0.2, 0)))
    return parts


def _body(kind: str, rng: np.random.Generator) -> list[_Part]:
    """A sitting body below a head at the origin; dogs are a little taller and deeper-chested."""
    dog = kind == "dog"
    build = rng.uniform(0.88, 1.12)
    low = _FLOOR[kind]
    parts = [
        _Part("torso", (0, -0.42, -0.25), (0.30 * build, 0.36, 0.30)),
        _Part("torso", (0, -0.85, -0.22), (0.42 * build, 0.55, 0.38)),
        _Part("chest", (0, -0.72, 0.0), (0.24 * build, 0.36, 0.22)),
        _Part("torso", (0, low + 0.5, -0.6), (0.56 * build, 0.50, 0.62)),
        *_pair(_Part("torso", (0.42 * build, low + 0.32, -0.3), (0.2, 0.34, 0.36))),
        *_pair(_Part("leg", (0.19 * build, low + 0.45, 0.02), (0.12, 0.52, 0.14))),
        *_pair(_Part("paw", (0.19 * build, low + 0.06, 0.1), (0.145, 0.095, 0.2))),
        *_pair(_Part("paw", (0.5 * build, low + 0.06, 0.0), (0.14, 0.09, 0.22), (0.3, 0, 0))),
    ]
    side = rng.choice([-1.0, 1.0])
    lift, curl = rng.uniform((0.2, -0.1), (0.9, 0.25))
    x, y, angle = 0.45 * side, low + 0.3, lift
    links, thickness = (5, 0.1) if dog else (8, 0.075)
    for _ in range(links):
        x, y = x + 0.13 * side * np.cos(angle), y + 0.13 * np.sin(angle)
        radii = (0.15, thickness, thickness)
        parts.append(_Part("tail", (x, y, -0.75), radii, (0, 0, side * angle)))
        angle += curl
    return parts


def _enlarged(grid: np.ndarray, side: int) -> np.ndarray:
    """`grid` (rows, columns) interpolated smoothly to (side, side)."""
    for axis in (0, 1):
        position = np.arange(side, dtype=np.float32) * ((grid.shape[axis] - 1) / side)
        below = position.astype(np.intp)
        t = position - below
        t = (t * t * (3 - 2 * t)).astype(np.float32)
        t = t[:, None] if axis == 0 else t[None, :]
        grid = grid.take(below, axis) * (1 - t) + grid.take(below + 1, axis) * t
    return grid


def _noise(rng: np.random.Generator, rows: int, columns: int, side: int) -> np.ndarray:
    """Soft noise (side, side) in -0.5..0.5 with `rows` by `columns` cells."""
    return _enlarged(rng.random((rows + 1, columns + 1), np.float32) - np.float32(0.5), side)


def _look(kind: str, rng: np.random.Generator) -> _Look:
    pattern = str(rng.choice(list(_SECOND_COLOUR)))
    first, second = _pick(rng, _COATS, 0.12), _pick(rng, (_WHITE,), 0.05)
    if pattern == "tuxedo":
        first = _pick(rng, ((0.20, 0.19, 0.20), (0.32, 0.31, 0.33)), 0.12)
    elif pattern == "points":
        first, second = _pick(rng, ((0.85, 0.78, 0.66), _COATS[5]), 0.08), _pick(rng, (_DARK,), 0.2)
    elif float(first.mean()) > 0.75:  # a white animal's markings are coloured
        second = _pick(rng, (_COATS[0], _COATS[3], _COATS[1]), 0.12)
    noses: tuple[Vector, ...] = ((0.09, 0.08, 0.08),)
    eyes: tuple[Vector, ...] = ((0.36, 0.20, 0.10), (0.28, 0.16, 0.08))
    if kind == "cat":
        noses = ((0.80, 0.47, 0.46), (0.70, 0.40, 0.38), (0.25, 0.18, 0.18))
        eyes = ((0.50, 0.68, 0.30), (0.82, 0.66, 0.22), (0.42, 0.62, 0.78), (0.75, 0.48, 0.18))
    materials: dict[str, Vector] = {
        "nose": tuple(_pick(rng, noses, 0.1)),
        "eye": tuple(_pick(rng, eyes, 0.1)),
        "inner ear": tuple(0.6 * np.array([0.86, 0.60, 0.57]) + 0.4 * first * 0.9),
        "lid": tuple(0.55 * first + np.array([0.27, 0.22, 0.17])),  # sets dark eyes off dark coats
        "tongue": (0.86, 0.45, 0.48),
        "pupil": (0.03, 0.03, 0.03),
        "line": (0.10, 0.07, 0.06),
        "glint": (1.5, 1.5, 1.5),
        "whisker": (1.0, 1.0, 0.98),
    }
    return _Look(pattern, first, second, rng.uniform(3.5, 5.5), materials)


def _coat(look: _Look, region: str, where: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Colours (n, 3) of fur at `where` (n, 3), in head sizes; `soft` (n,) is broad noise."""
    amount = np.zeros(len(where), np.float32)
    target = look.second
    if region in _SECOND_COLOUR[look.pattern]:
        amount = np.clip(-3 * where[:, 1] - 3.2, 0, 1) if region == "leg" else amount + 1
    elif look.pattern == "tabby":
        # A triangle wave: dark bars across the body, upright ones on the forehead.
        upright = (region == "head") & (where[:, 1] > 0.12) & (abs(where[:, 0]) < 0.3)
        along = np.where(upright, where[:, 0] * 1.5 + 0.17, where[:, 1] + 0.25 * abs(where[:, 0]))
        wave = abs((along * look.stripes + soft * 1.2) % 1.0 - 0.5) * 2
        target = look.first * np.float32(0.42)
        amount = np.clip((wave - 0.5) * 6, 0, 0.85)
        if region in ("muzzle", "chest"):
            amount, target = np.full_like(amount, 0.45), np.asarray(_WHITE, np.float32)
    elif look.pattern == "patches":
        amount = np.clip((soft - 0.05) * 25, 0, 1)
    elif look.pattern == "bicolour" and region == "head":
        blaze = 0.10 - abs(where[:, 0]) - 0.12 * where[:, 1] + 0.06 * soft
        amount = np.clip(blaze * 30, 0, 1)
    elif look.pattern == "points" and region == "head":
        mask = 0.32 - where[:, 0] ** 2 * 1.6 - (where[:, 1] + 0.12) ** 2 * 1.6
        amount = np.clip(mask * 3, 0, 0.75)
    elif region == "muzzle":
        amount = np.full_like(amount, 0.3)
    return look.first + (target - look.first) * amount[:, None]


class _Canvas:
    """The nearest surface at each fine pixel: depth, normal, colour and gloss."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.depth = np.full((_FINE, _FINE), -4, np.float32)
        self.normal = np.zeros((_FINE, _FINE, 3), np.float32)
        self.colour = np.zeros((_FINE, _FINE, 3), np.float32)
        self.gloss = np.zeros((_FINE, _FINE), np.float32)
        self.fur = _noise(rng, 60, 128, _FINE) + 0.6 * _noise(rng, 30, 50, _FINE)
        self.soft = _noise(rng, 9, 9, _FINE) + 0.5 * _noise(rng, 20, 20, _FINE)

    def draw(self, part: _Part, frame: _Frame, look: _Look) -> None:
        """Draw what of `part` is in front of all that is there."""
        axes = frame.rotation @ _rotation(*part.turn)
        centre = frame.origin + frame.scale * (frame.rotation @ np.asarray(part.centre))
        radii = frame.scale * np.asarray(part.radii)
        reach = np.sqrt(((axes[:2] * radii) ** 2).sum(axis=1))
        left, right = _pixel_range(centre[0] - reach[0], centre[0] + reach[0])
        top, bottom = _pixel_range(-centre[1] - reach[1], -centre[1] + reach[1])
        if left >= right or top >= bottom:
            return
        box = np.s_[top:bottom, left:right]
        furry = part.surface not in look.materials
        quadric = ((axes / radii**2) @ axes.T).astype(np.float32)
        x = _positions(left, right) - np.float32(centre[0])
        y = -_positions(top, bottom) - np.float32(centre[1])
        inside, z = _front(quadric, x[None, :], y[:, None])
        ragged = (0.8 if part.surface == "chest" else 0.22) * furry * np.maximum(self.fur[box], 0)
        seen = (inside > ragged) & (z + np.float32(centre[2]) > self.depth[box])
        rows, columns = np.nonzero(seen)
        points = np.stack([x[columns], y[rows], z[rows, columns]], axis=1)
        if part.pointed:
            local = _turned(points, axes) / radii.astype(np.float32)
            kept = (local[:, 1] > -0.45) & (abs(local[:, 0]) < 0.56 * (0.97 - local[:, 1]))
            rows, columns, points = rows[kept], columns[kept], points[kept]
        rows, columns = rows + top, columns + left
        normal = _turned(points, quadric)
        normal /= np.sqrt((normal * normal).sum(axis=1, keepdims=True))
        points += centre.astype(np.float32)
        self.depth[rows, columns] = points[:, 2]
        if furry:
            fur = self.fur[rows, columns]
            where = _turned(points - frame.origin.astype(np.float32), frame.rotation)
            where /= np.float32(frame.scale)
            colour = _coat(look, part.surface, where, self.soft[rows, columns])
            self.colour[rows, columns] = colour * (1 + 0.35 * fur[:, None])
            normal[:, 0] += 0.35 * fur
        else:
            self.colour[rows, columns] = look.materials[part.surface]
        self.normal[rows, columns] = normal
        self.gloss[rows, columns] = _GLOSS.get(part.surface, 0.0)

    def shaded(self, light: np.ndarray, tint: np.ndarray, ambient: float) -> np.ndarray:
        """The lit animal (_FINE, _FINE, 3) in 0..1, 0 where there is none."""
        halfway = light + np.array([0, 0, 1])
        halfway /= np.sqrt((halfway**2).sum())
        facing = _along(self.normal, light)
        diffuse = np.maximum(0.8 * facing + 0.2, 0)
        shine = np.maximum(_along(self.normal, halfway), 0)
        for _ in range(5):
            shine = shine * shine
        # Hollows, such as under a chin, see less of the sky: they lie behind their surroundings.
        solid = np.maximum(self.depth, -1.2)
        coarse = _halved(_halved(_halved(solid)))
        hollow = np.clip(_enlarged(np.pad(coarse, (0, 1), mode="edge"), _FINE) - solid, 0, 0.3)
        sky = ambient * (0.85 + 0.15 * self.normal[..., 1])
        strength = (sky + 0.72 * diffuse) * (1 - 1.1 * hollow)
        lit = np.stack([self.colour[..., i] * (strength * tint[i]) for i in range(3)], axis=-1)
        return np.minimum(lit + (shine * self.gloss)[..., None], 1)


def _front(quadric: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far inside the outline of p' Q p = 1 each (x, y) is, 1 to 0, and its front's z."""
    q = quadric[2, 2]
    slope_x, slope_y = quadric[0, 2] / q, quadric[1, 2] / q
    round_x = quadric[0, 0] - q * slope_x * slope_x
    round_y = quadric[1, 1] - q * slope_y * slope_y
    skew = 2 * (quadric[0, 1] - q * slope_x * slope_y)
    inside = (1 - round_x * x * x) - y * (skew * x + round_y * y)
    return inside, np.sqrt(np.maximum(inside, 0) / q) - (slope_x * x + slope_y * y)


def _halved(picture: np.ndarray) -> np.ndarray:
    """`picture` at half the height and width, each pixel the mean of four."""
    rows = picture[0::2] + picture[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)


def _positions(start: int, stop: int, side: int = _FINE) -> np.ndarray:
    """Where pixels start..stop-1 of `side` lie, in -1..1."""
    return (np.arange(start, stop, dtype=np.float32) + 0.5) / (side / 2) - 1


def _pixel_range(low: float, high: float) -> tuple[int, int]:
    """The fine pixels, first and past the last, that cover low..high in -1..1."""
    start, stop = (np.clip((v + 1) * _FINE / 2, 0, _FINE) for v in (low, high))
    return int(start), int(np.ceil(stop))


def _along(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Dot product on the last axis, summed in a fixed order as BLAS would not."""
    first, second, third = (np.float32(d) for d in direction)
    return vectors[..., 0] * first + vectors[..., 1] * second + vectors[..., 2] * third


def _turned(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Coordinates (n, 3) of `points` (n, 3) along the columns of `axes`."""
    return np.stack([_along(points, axes[:, i]) for i in range(3)], axis=1)


def _background(rng: np.random.Generator, avoid: np.ndarray) -> np.ndarray:
    """A natural setting (_SIDE, _SIDE, 3) that stands off from the coat's colour `avoid`."""
    choices = [_pick(rng, _SCENERY, 0.12) for _ in range(3)]
    wall = max(choices, key=lambda c: float(abs(c - avoid).sum()))
    floor = _pick(rng, _SCENERY, 0.12)
    style = rng.choice(["gradient", "haze", "room", "blobs", "grass"])
    across = (_positions(0, _SIDE, _SIDE)[None, :] + 1) / 2
    down = across.T
    picture: np.ndarray = np.broadcast_to(wall, (_SIDE, _SIDE, 3)) * np.float32(1)
    horizon = rng.uniform(0.5, 0.85)
    if style == "gradient":
        slope = np.float32(rng.uniform(-0.4, 0.4))
        blend = np.clip(down + slope * (across - 0.5), 0, 1)[..., None] * np.float32(0.7)
        picture = picture * (1 - blend) + floor * blend
    elif style == "haze":
        blend = np.clip(0.5 + 1.1 * _noise(rng, 4, 4, _SIDE), 0, 1)[..., None]
        picture = picture * (1 - 0.6 * blend) + floor * 0.6 * blend
    elif style == "blobs":
        for _ in range(rng.integers(8, 20)):
            (x, y), radius = rng.random(2), rng.uniform(0.05, 0.16)
            inside = 1 - ((across - x) ** 2 + (down - y) ** 2) / radius**2
            disc = np.clip(inside * 4, 0, 1)[..., None] * rng.uniform(0.15, 0.5)
            picture += (_pick(rng, _SCENERY, 0.2) * 1.1 - picture) * disc
    else:
        softness = rng.uniform(0.01, 0.05) if style == "room" else 0.04
        ground = np.clip((down - horizon) / softness + 0.5, 0, 1)[..., None]
        grain = _noise(rng, 24, 6, _SIDE) * 0.12
        if style == "grass":
            floor = _pick(rng, _GRASS, 0.15)
            grain = (_noise(rng, 30, 90, _SIDE) + _noise(rng, 12, 20, _SIDE)) * 0.35
        picture = picture * (1 - ground) + floor * (1 + grain[..., None]) * ground
    return picture * (1 + 0.18 * _noise(rng, 5, 5, _SIDE)[..., None])


def _pose(rng: np.random.Generator) -> tuple[_Frame, _Frame]:
    """Where the head and the body are and which way they turn; both share their origin."""
    scale = rng.uniform(0.70, 1.02)
    height = 0.97 - 0.87 * scale + rng.normal(0, 0.05)  # near animals sit low: ears stay in view
    place = np.array([rng.normal(0, 0.12), height, 0.0])
    turn = np.clip(rng.normal(0, (0.30, 0.12, 0.13)), -0.6, 0.6)
    body = _rotation(rng.normal(0, 0.45), 0, rng.normal(0, 0.05))
    return _Frame(_rotation(*turn), place, scale), _Frame(body, place, scale)


def _ground_shadow(x: float, y: float, scale: float) -> np.ndarray:
    """The share of light (_SIDE, _SIDE) left by an animal that sits at `x`, `y` in -1..1."""
    place = _positions(0, _SIDE, _SIDE)
    across = (place[None, :] - np.float32(x)) / scale
    down = (place[:, None] + np.float32(y)) / scale
    return 1 - 0.45 * np.maximum(1 - across * across / 0.8 - down * down / 0.05, 0)


def render(kind: str, seed: int) -> np.ndarray:
    """The picture of a `kind` that `seed` stands for: (128, 128, 3) uint8, RGB counts 0..255.

    The same kind and seed give the same picture in every process. ValueError if `kind` is not in
    `KINDS` or `seed` is negative.
    """
    if kind not in KINDS:
        raise ValueError(f"The kind is {kind!r}; it must be one of {', '.join(KINDS)}.")
    if seed < 0:
        raise ValueError(f"The seed is {seed}; it must be 0 or more.")
    rng = np.random.default_rng([KINDS.index(kind), seed])
    look = _look(kind, rng)
    background = _background(rng, look.first)
    canvas = _Canvas(rng)
    head, body = _pose(rng)

    # Front to back, more or less, so that little is coloured only to be covered.
    for part in reversed(_cat_head(rng) if kind == "cat" else _dog_head(rng)):
        canvas.draw(part, head, look)
    for part in _body(kind, rng):
        canvas.draw(part, body, look)

    light = np.array([rng.normal(0, 0.55), rng.uniform(0.4, 1.0), rng.uniform(0.6, 1.0)])
    light /= np.sqrt((light**2).sum())
    warmth = rng.normal(0, 0.035)
    tint = np.array([1 + warmth, 1, 1 - warmth], np.float32) * np.float32(rng.uniform(0.9, 1.08))
    animal = canvas.shaded(light, tint, rng.uniform(0.38, 0.52))

    coverage = _halved((canvas.depth > -4).astype(np.float32))[..., None]
    ground = body.origin[1] + body.scale * (_FLOOR[kind] + 0.05)
    shade = _ground_shadow(body.origin[0], ground, body.scale)
    picture = background * tint * shade[..., None] * (1 - coverage) + _halved(animal)
    grain = rng.uniform(0.004, 0.02) * rng.standard_normal(picture.shape, np.float32)
    return (np.clip(picture + grain, 0, 1) * 255 + 0.5).astype(np.uint8)


def training_rendering(kind: str, number: int) -> np.ndarray:
    """Picture `number` (0, 1, ...) of a `kind` kept for training: (128, 128, 3) uint8.

    `renderings` never gives one of these. ValueError as for `render`.
    """
    if number < 0:
        raise ValueError(f"The number is {number}; it must be 0 or more.")
    return render(kind, _TRAINING_START + number)


def rendering_name(kind: str, number: int) -> str:
    """The file name of rendering `number` of a `kind`, such as `cat.rendered.00017.png`."""
    return f"{kind}.rendered.{number:05d}.png"


def renderings(count: int, seed: int = 0) -> Iterator[tuple[str, int, np.ndarray]]:
    """(name, class index, picture) of `count` renderings, cats (0) and dogs (1) in turn.

    Pictures are (128, 128, 3) uint8 and drawn as they are asked for. Each `seed` in 0..999 has a
    million of its own, none in the training range; ValueError at once for more, or another seed.
    """
    if not 0 <= count <= _BLOCK:
        raise ValueError(f"The count is {count}; it must be from 0 to {_BLOCK}.")
    last = _TRAINING_START // _BLOCK - 1
    if not 0 <= seed <= last:
        raise ValueError(f"The seed is {seed}; it must be from 0 to {last}.")
    return (_numbered(seed * _BLOCK + number, number % 2) for number in range(count))


def _numbered(number: int, label: int) -> tuple[str, int, np.ndarray]:
    return rendering_name(KINDS[label], number), label, render(KINDS[label], number)
