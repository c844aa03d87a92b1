"""The anatomy of cats and dogs: a few dozen ellipsoids each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robustness.model_zoo.dogs_vs_cats.drawing.coats import Vector

FLOOR = {"cat": -1.6, "dog": -1.72}
"""The height of the ground relative to the middle of the head, in head sizes."""


@dataclass(frozen=True)
class Part:
    """One ellipsoid; lengths in head sizes, x right, y up, z to the viewer, turns in radians."""

    surface: str  # a region of the coat, or a material of `Look.materials`
    centre: Vector
    radii: Vector
    turn: Vector = (0.0, 0.0, 0.0)  # yaw, pitch, roll
    pointed: bool = False  # cut to a triangle with its tip at the top


def _pair(part: Part) -> list[Part]:
    """The part and its mirror image on the other side of the animal."""
    (x, y, z), (yaw, pitch, roll) = part.centre, part.turn
    return [part, replace(part, centre=(-x, y, z), turn=(-yaw, pitch, -roll))]


def cat_head(rng: np.random.Generator) -> list[Part]:
    """A cat's head, back to front."""
    wide, ear, eye = rng.uniform((0.94, 0.88, 0.95), (1.06, 1.15, 1.15))
    spread = rng.uniform(0.2, 0.42)
    slit = rng.uniform(0.018, 0.045)
    parts = [
        Part("head", (0, 0.02, 0), (0.50 * wide, 0.43, 0.42)),
        Part("head", (0, 0.02, 0.33), (0.08, 0.18, 0.11), (0, -0.3, 0)),
        Part("muzzle", (0, -0.29, 0.31), (0.11, 0.08, 0.1)),
        Part("nose", (0, -0.105, 0.475), (0.058, 0.036, 0.03)),
        Part("line", (0, -0.165, 0.49), (0.009, 0.04, 0.02)),
        *_pair(Part("head", (0.25 * wide, -0.13, 0.08), (0.26, 0.22, 0.27))),
        *_pair(Part("muzzle", (0.085, -0.19, 0.37), (0.125, 0.095, 0.12))),
        *_pair(Part("line", (0.05, -0.225, 0.46), (0.055, 0.009, 0.03), (0, 0, 0.45))),
    ]
    eye_height = rng.uniform(0.085, 0.105) * eye
    for surface, size, z in (("line", 1.16, 0.325), ("eye", 1.0, 0.345)):
        radii = (0.115 * eye * size, eye_height * size, 0.085)
        parts += _pair(Part(surface, (0.205, 0.06, z), radii, (0.25, 0, 0.15)))
    parts += _pair(Part("pupil", (0.208, 0.06, 0.39), (slit, eye_height * 0.9, 0.05)))
    parts += [Part("glint", (x + 0.035, 0.1, 0.44), (0.02, 0.02, 0.02)) for x in (-0.205, 0.205)]
    for surface, size, z in (("ear", 1.0, -0.04), ("inner ear", 0.68, 0.03)):
        radii = (0.26 * ear * size, 0.42 * ear * size, 0.09)
        turn = (0.15, 0.0, -spread)
        parts += _pair(Part(surface, (0.31, 0.40, z), radii, turn, pointed=True))
    for tilt in (-0.22, -0.02, 0.18):
        angle = tilt + rng.normal(0, 0.06)
        length = rng.uniform(0.24, 0.32)
        centre = (0.14 + length * np.cos(angle), -0.18 + length * np.sin(angle), 0.40)
        parts += _pair(Part("whisker", centre, (length, 0.0085, 0.0085), (0.3, 0, angle)))
    return parts


def _dog_ears(rng: np.random.Generator) -> list[Part]:
    """Hanging ears (long, short or wide), or half-pricked ones with folded tips."""
    size = rng.uniform(0.9, 1.12)
    root = Part("ear", (0.34, 0.39, -0.06), (0.15, 0.14, 0.1), (0, 0, -0.5))
    styles = (
        [Part("ear", (0.46, -0.16, -0.02), (0.15 * size, 0.46 * size, 0.22))],
        [Part("ear", (0.45, 0.09, 0.03), (0.12 * size, 0.30 * size, 0.2), (0, 0, 0.28))],
        [Part("ear", (0.55, 0.05, -0.04), (0.16 * size, 0.36 * size, 0.14), (0, 0, 0.6))],
        [root, Part("ear", (0.49, 0.30, 0.08), (0.15, 0.27 * size, 0.1), (0, 0, 0.5))],
    )
    chosen = rng.choice(len(styles), p=[0.35, 0.3, 0.2, 0.15])
    return [side for part in styles[chosen] for side in _pair(part)]


def dog_head(rng: np.random.Generator) -> list[Part]:
    """A dog's head, back to front."""
    wide, long, nose = rng.uniform((0.92, 0.85, 0.9), (1.06, 1.25, 1.15))
    tip = 0.30 + 0.44 * long
    parts = [
        Part("head", (0, 0.10, 0), (0.43 * wide, 0.40, 0.42)),
        Part("head", (0, 0.02, 0.30), (0.17, 0.18, 0.3), (0, 0.35, 0)),
        Part("muzzle", (0, -0.14, 0.36), (0.22 * wide, 0.17, 0.40 * long)),
        Part("muzzle", (0, -0.31, 0.36), (0.15, 0.08, 0.30 * long)),
        Part("nose", (0, -0.05, tip + 0.08), (0.115 * nose, 0.085 * nose, 0.08)),
        Part("line", (0, -0.18, tip + 0.11), (0.010, 0.075, 0.03)),
        *_pair(Part("head", (0.2 * wide, -0.1, 0.1), (0.22, 0.24, 0.27))),
        *_pair(Part("muzzle", (0.08, -0.17, tip - 0.03), (0.13, 0.115, 0.15))),
        *_pair(Part("line", (0.085, -0.265, tip + 0.03), (0.1, 0.012, 0.06), (0, 0, 0.3))),
        *_pair(Part("head", (0.19, 0.265, 0.3), (0.11, 0.05, 0.08), (0, 0, -0.35))),
        *_pair(Part("lid", (0.19, 0.14, 0.335), (0.115, 0.115, 0.07))),
        *_pair(Part("line", (0.19, 0.14, 0.35), (0.092, 0.092, 0.065))),
        *_pair(Part("eye", (0.19, 0.14, 0.365), (0.08, 0.082, 0.07))),
        *_pair(Part("pupil", (0.19, 0.14, 0.395), (0.048, 0.05, 0.05))),
        *_dog_ears(rng),
    ]
    parts += [Part("glint", (x + 0.03, 0.18, 0.44), (0.02, 0.02, 0.02)) for x in (-0.19, 0.19)]
    if rng.random() < 0.45:
        parts.append(Part("tongue", (0, -0.40, tip - 0.06), (0.075, 0.15, 0.05), (0, -0.2, 0)))
    return parts


def body_of(kind: str, rng: np.random.Generator) -> list[Part]:
    """A sitting body below a head at the origin; dogs are a little taller and deeper-chested."""
    dog = kind == "dog"
    build = rng.uniform(0.88, 1.12)
    low = FLOOR[kind]
    parts = [
        Part("torso", (0, -0.42, -0.25), (0.30 * build, 0.36, 0.30)),
        Part("torso", (0, -0.85, -0.22), (0.42 * build, 0.55, 0.38)),
        Part("chest", (0, -0.72, 0.0), (0.24 * build, 0.36, 0.22)),
        Part("torso", (0, low + 0.5, -0.6), (0.56 * build, 0.50, 0.62)),
        *_pair(Part("torso", (0.42 * build, low + 0.32, -0.3), (0.2, 0.34, 0.36))),
        *_pair(Part("leg", (0.19 * build, low + 0.45, 0.02), (0.12, 0.52, 0.14))),
        *_pair(Part("paw", (0.19 * build, low + 0.06, 0.1), (0.145, 0.095, 0.2))),
        *_pair(Part("paw", (0.5 * build, low + 0.06, 0.0), (0.14, 0.09, 0.22), (0.3, 0, 0))),
    ]
    side = rng.choice([-1.0, 1.0])
    lift, curl = rng.uniform((0.2, -0.1), (0.9, 0.25))
    x, y, angle = 0.45 * side, low + 0.3, lift
    links, thickness = (5, 0.1) if dog else (8, 0.075)
    for _ in range(links):
        x, y = x + 0.13 * side * np.cos(angle), y + 0.13 * np.sin(angle)
        radii = (0.15, thickness, thickness)
        parts.append(Part("tail", (x, y, -0.75), radii, (0, 0, side * angle)))
        angle += curl
    return parts
