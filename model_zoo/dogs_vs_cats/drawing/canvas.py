"""A canvas of lit ellipsoids: the nearest surface at each pixel, and its shading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustness.model_zoo.dogs_vs_cats.drawing.anatomy import Part
from robustness.model_zoo.dogs_vs_cats.drawing.coats import Look, coat

SIDE = 128
FINE = 2 * SIDE  # animals are drawn at twice the size and averaged down, for smooth edges
_GLOSS = {"eye": 0.8, "pupil": 0.8, "nose": 0.5, "tongue": 0.3}


@dataclass(frozen=True)
class Frame:
    """The position, size and orientation of a group of parts in the image, which spans -1..1 on both axes."""

    rotation: np.ndarray  # (3, 3)
    origin: np.ndarray  # (3,)
    scale: float


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The (3, 3) matrix of a rotation by `roll`, then `pitch`, then `yaw`, in radians."""
    angles = [yaw, pitch, roll]
    # Rounded, since the last bit of a sine depends on the processor.
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles).round(9), np.sin(angles).round(9)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def _enlarged(grid: np.ndarray, side: int) -> np.ndarray:
    """Interpolate `grid` (rows, columns) smoothly to (side, side)."""
    for axis in (0, 1):
        position = np.arange(side, dtype=np.float32) * ((grid.shape[axis] - 1) / side)
        below = position.astype(np.intp)
        t = position - below
        t = (t * t * (3 - 2 * t)).astype(np.float32)
        t = t[:, None] if axis == 0 else t[None, :]
        grid = grid.take(below, axis) * (1 - t) + grid.take(below + 1, axis) * t
    return grid


def noise(rng: np.random.Generator, rows: int, columns: int, side: int) -> np.ndarray:
    """Soft noise (side, side) in -0.5..0.5 with `rows` by `columns` cells."""
    return _enlarged(rng.random((rows + 1, columns + 1), np.float32) - np.float32(0.5), side)


class Canvas:
    """The nearest surface at each fine pixel: depth, normal, colour and gloss."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.depth = np.full((FINE, FINE), -4, np.float32)
        self.normal = np.zeros((FINE, FINE, 3), np.float32)
        self.colour = np.zeros((FINE, FINE, 3), np.float32)
        self.gloss = np.zeros((FINE, FINE), np.float32)
        self.fur = noise(rng, 60, 128, FINE) + 0.6 * noise(rng, 30, 50, FINE)
        self.soft = noise(rng, 9, 9, FINE) + 0.5 * noise(rng, 20, 20, FINE)

    def draw(self, part: Part, frame: Frame, look: Look) -> None:
        """Draw the pixels of `part` that are nearer than all drawn before."""
        axes = frame.rotation @ rotation(*part.turn)
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
        x = positions(left, right) - np.float32(centre[0])
        y = -positions(top, bottom) - np.float32(centre[1])
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
            colour = coat(look, part.surface, where, self.soft[rows, columns])
            self.colour[rows, columns] = colour * (1 + 0.35 * fur[:, None])
            normal[:, 0] += 0.35 * fur
        else:
            self.colour[rows, columns] = look.materials[part.surface]
        self.normal[rows, columns] = normal
        self.gloss[rows, columns] = _GLOSS.get(part.surface, 0.0)

    def shaded(self, light: np.ndarray, tint: np.ndarray, ambient: float) -> np.ndarray:
        """The lit animal (FINE, FINE, 3) in 0..1, 0 outside it."""
        halfway = light + np.array([0, 0, 1])
        halfway /= np.sqrt((halfway**2).sum())
        facing = _along(self.normal, light)
        diffuse = np.maximum(0.8 * facing + 0.2, 0)
        shine = np.maximum(_along(self.normal, halfway), 0)
        for _ in range(5):
            shine = shine * shine
        # Hollows, such as under a chin, see less of the sky: they lie behind their surroundings.
        solid = np.maximum(self.depth, -1.2)
        coarse = halved(halved(halved(solid)))
        hollow = np.clip(_enlarged(np.pad(coarse, (0, 1), mode="edge"), FINE) - solid, 0, 0.3)
        sky = ambient * (0.85 + 0.15 * self.normal[..., 1])
        strength = (sky + 0.72 * diffuse) * (1 - 1.1 * hollow)
        lit = np.stack([self.colour[..., i] * (strength * tint[i]) for i in range(3)], axis=-1)
        return np.minimum(lit + (shine * self.gloss)[..., None], 1)


def _front(quadric: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The depth inside the outline of p' Q p = 1 at each (x, y), 1 to 0, and the z of its front."""
    q = quadric[2, 2]
    slope_x, slope_y = quadric[0, 2] / q, quadric[1, 2] / q
    round_x = quadric[0, 0] - q * slope_x * slope_x
    round_y = quadric[1, 1] - q * slope_y * slope_y
    skew = 2 * (quadric[0, 1] - q * slope_x * slope_y)
    inside = (1 - round_x * x * x) - y * (skew * x + round_y * y)
    return inside, np.sqrt(np.maximum(inside, 0) / q) - (slope_x * x + slope_y * y)


def halved(picture: np.ndarray) -> np.ndarray:
    """`picture` at half the height and width, each pixel the mean of four."""
    rows = picture[0::2] + picture[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)


def positions(start: int, stop: int, side: int = FINE) -> np.ndarray:
    """The positions in -1..1 of pixels start..stop-1 of `side`."""
    return (np.arange(start, stop, dtype=np.float32) + 0.5) / (side / 2) - 1


def _pixel_range(low: float, high: float) -> tuple[int, int]:
    """The fine pixels, first and past the last, that cover low..high in -1..1."""
    start, stop = (np.clip((v + 1) * FINE / 2, 0, FINE) for v in (low, high))
    return int(start), int(np.ceil(stop))


def _along(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The dot product on the last axis, summed in a fixed order, which BLAS does not guarantee."""
    first, second, third = (np.float32(d) for d in direction)
    return vectors[..., 0] * first + vectors[..., 1] * second + vectors[..., 2] * third


def _turned(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Coordinates (n, 3) of `points` (n, 3) along the columns of `axes`."""
    return np.stack([_along(points, axes[:, i]) for i in range(3)], axis=1)
