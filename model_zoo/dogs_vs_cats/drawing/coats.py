"""The colours of an animal: coat patterns, eyes and noses, as red, green, blue in 0..1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]

_COATS: tuple[Vector, ...] = (
    (0.80, 0.50, 0.22), (0.48, 0.47, 0.48), (0.90, 0.87, 0.82), (0.46, 0.31, 0.20),
    (0.20, 0.19, 0.20), (0.72, 0.60, 0.44), (0.62, 0.40, 0.22), (0.66, 0.66, 0.68),
)  # fmt: skip
_WHITE: Vector = (0.93, 0.91, 0.87)
_DARK: Vector = (0.20, 0.16, 0.14)

# The regions of the body that each pattern paints in the coat's second colour.
_SECOND_COLOUR: dict[str, frozenset[str]] = {
    "plain": frozenset(),
    "tabby": frozenset(),
    "patches": frozenset({"muzzle", "chest"}),
    "bicolour": frozenset({"muzzle", "chest", "paw"}),
    "points": frozenset({"muzzle", "ear", "leg", "paw", "tail"}),
    "tuxedo": frozenset({"muzzle", "chest", "paw"}),
}


@dataclass(frozen=True)
class Look:
    """The colours of one animal."""

    pattern: str
    first: np.ndarray
    second: np.ndarray
    stripes: float  # per head size
    materials: dict[str, Vector]


def pick(rng: np.random.Generator, options: tuple[Vector, ...], jitter: float) -> np.ndarray:
    """One of `options` with random brightness and hue: (3,) float32."""
    colour = np.asarray(options[rng.integers(len(options))]) * rng.uniform(1 - jitter, 1 + jitter)
    return np.clip(colour * rng.normal(1, jitter / 6, 3), 0.03, 1).astype(np.float32)


def look_of(kind: str, rng: np.random.Generator) -> Look:
    """A coat and colours for a `kind`; only eyes and nose depend on the kind."""
    pattern = str(rng.choice(list(_SECOND_COLOUR)))
    first, second = pick(rng, _COATS, 0.12), pick(rng, (_WHITE,), 0.05)
    if pattern == "tuxedo":
        first = pick(rng, ((0.20, 0.19, 0.20), (0.32, 0.31, 0.33)), 0.12)
    elif pattern == "points":
        first, second = pick(rng, ((0.85, 0.78, 0.66), _COATS[5]), 0.08), pick(rng, (_DARK,), 0.2)
    elif float(first.mean()) > 0.75:  # a white animal's markings are coloured
        second = pick(rng, (_COATS[0], _COATS[3], _COATS[1]), 0.12)
    noses: tuple[Vector, ...] = ((0.09, 0.08, 0.08),)
    eyes: tuple[Vector, ...] = ((0.36, 0.20, 0.10), (0.28, 0.16, 0.08))
    if kind == "cat":
        noses = ((0.80, 0.47, 0.46), (0.70, 0.40, 0.38), (0.25, 0.18, 0.18))
        eyes = ((0.50, 0.68, 0.30), (0.82, 0.66, 0.22), (0.42, 0.62, 0.78), (0.75, 0.48, 0.18))
    materials: dict[str, Vector] = {
        "nose": tuple(pick(rng, noses, 0.1)),
        "eye": tuple(pick(rng, eyes, 0.1)),
        "inner ear": tuple(0.6 * np.array([0.86, 0.60, 0.57]) + 0.4 * first * 0.9),
        "lid": tuple(0.55 * first + np.array([0.27, 0.22, 0.17])),  # sets dark eyes off dark coats
        "tongue": (0.86, 0.45, 0.48),
        "pupil": (0.03, 0.03, 0.03),
        "line": (0.10, 0.07, 0.06),
        "glint": (1.5, 1.5, 1.5),
        "whisker": (1.0, 1.0, 0.98),
    }
    return Look(pattern, first, second, rng.uniform(3.5, 5.5), materials)


def coat(look: Look, region: str, where: np.ndarray, soft: np.ndarray) -> np.ndarray:
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
