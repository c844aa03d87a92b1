"""Rendered cats and dogs: an unlimited supply of labelled images by seed, without an account.

An animal consists of a few dozen lit ellipsoids. Only its anatomy and the colours of its eyes and nose
depend on the kind. Coats, poses, cameras, lights and backgrounds come from the same distributions for both,
so that neither the coat's colour nor the background distinguishes a cat from a dog. Pixels are computed with
+ - * / and square roots only, which IEEE 754 rounds the same way everywhere; sines would differ between
processors.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustness.model_zoo.dogs_vs_cats.drawing.anatomy import FLOOR, body_of, cat_head, dog_head
from robustness.model_zoo.dogs_vs_cats.drawing.canvas import (
    SIDE,
    Canvas,
    Frame,
    halved,
    noise,
    positions,
    rotation,
)
from robustness.model_zoo.dogs_vs_cats.drawing.coats import Vector, look_of, pick

KINDS = ("cat", "dog")

_TRAINING_START = 1_000_000_000
_BLOCK = 1_000_000

_SCENERY: tuple[Vector, ...] = (
    (0.70, 0.62, 0.50), (0.52, 0.58, 0.46), (0.42, 0.48, 0.55), (0.62, 0.72, 0.80),
    (0.60, 0.57, 0.54), (0.58, 0.40, 0.33), (0.45, 0.34, 0.25), (0.36, 0.44, 0.27),
    (0.84, 0.80, 0.72), (0.38, 0.36, 0.42), (0.75, 0.66, 0.62), (0.30, 0.40, 0.42),
)  # fmt: skip
_GRASS: tuple[Vector, ...] = ((0.38, 0.48, 0.22), (0.50, 0.54, 0.28), (0.60, 0.55, 0.33))


def _background(rng: np.random.Generator, avoid: np.ndarray) -> np.ndarray:
    """A background (SIDE, SIDE, 3) that contrasts with the coat's colour `avoid`."""
    choices = [pick(rng, _SCENERY, 0.12) for _ in range(3)]
    wall = max(choices, key=lambda c: float(abs(c - avoid).sum()))
    floor = pick(rng, _SCENERY, 0.12)
    style = rng.choice(["gradient", "haze", "room", "blobs", "grass"])
    across = (positions(0, SIDE, SIDE)[None, :] + 1) / 2
    down = across.T
    picture: np.ndarray = np.broadcast_to(wall, (SIDE, SIDE, 3)) * np.float32(1)
    horizon = rng.uniform(0.5, 0.85)
    if style == "gradient":
        slope = np.float32(rng.uniform(-0.4, 0.4))
        blend = np.clip(down + slope * (across - 0.5), 0, 1)[..., None] * np.float32(0.7)
        picture = picture * (1 - blend) + floor * blend
    elif style == "haze":
        blend = np.clip(0.5 + 1.1 * noise(rng, 4, 4, SIDE), 0, 1)[..., None]
        picture = picture * (1 - 0.6 * blend) + floor * 0.6 * blend
    elif style == "blobs":
        for _ in range(rng.integers(8, 20)):
            (x, y), radius = rng.random(2), rng.uniform(0.05, 0.16)
            inside = 1 - ((across - x) ** 2 + (down - y) ** 2) / radius**2
            disc = np.clip(inside * 4, 0, 1)[..., None] * rng.uniform(0.15, 0.5)
            picture += (pick(rng, _SCENERY, 0.2) * 1.1 - picture) * disc
    else:
        softness = rng.uniform(0.01, 0.05) if style == "room" else 0.04
        ground = np.clip((down - horizon) / softness + 0.5, 0, 1)[..., None]
        grain = noise(rng, 24, 6, SIDE) * 0.12
        if style == "grass":
            floor = pick(rng, _GRASS, 0.15)
            grain = (noise(rng, 30, 90, SIDE) + noise(rng, 12, 20, SIDE)) * 0.35
        picture = picture * (1 - ground) + floor * (1 + grain[..., None]) * ground
    return picture * (1 + 0.18 * noise(rng, 5, 5, SIDE)[..., None])


def _pose(rng: np.random.Generator) -> tuple[Frame, Frame]:
    """The positions and orientations of head and body, with a common origin."""
    scale = rng.uniform(0.70, 1.02)
    height = (
        0.97 - 0.87 * scale + rng.normal(0, 0.05)
    )  # near animals are placed lower, to keep the ears in view
    place = np.array([rng.normal(0, 0.12), height, 0.0])
    turn = np.clip(rng.normal(0, (0.30, 0.12, 0.13)), -0.6, 0.6)
    body = rotation(rng.normal(0, 0.45), 0, rng.normal(0, 0.05))
    return Frame(rotation(*turn), place, scale), Frame(body, place, scale)


def _ground_shadow(x: float, y: float, scale: float) -> np.ndarray:
    """The share of light (SIDE, SIDE) that the shadow of an animal at `x`, `y` in -1..1 leaves."""
    place = positions(0, SIDE, SIDE)
    across = (place[None, :] - np.float32(x)) / scale
    down = (place[:, None] + np.float32(y)) / scale
    return 1 - 0.45 * np.maximum(1 - across * across / 0.8 - down * down / 0.05, 0)


def render(kind: str, seed: int) -> np.ndarray:
    """Render one animal.

    Parameters
    ----------
    kind
        One of `KINDS`.
    seed
        0 or more; the same kind and seed give the same image in every process.

    Returns
    -------
    (128, 128, 3) uint8, RGB counts 0..255.

    Raises
    ------
    ValueError
        `kind` or `seed` is out of range.
    """
    if kind not in KINDS:
        raise ValueError(f"The kind is {kind!r}; it must be one of {', '.join(KINDS)}.")
    if seed < 0:
        raise ValueError(f"The seed is {seed}; it must be 0 or more.")
    rng = np.random.default_rng([KINDS.index(kind), seed])
    look = look_of(kind, rng)
    background = _background(rng, look.first)
    canvas = Canvas(rng)
    head, body = _pose(rng)

    # Roughly front to back, so that few pixels are coloured and then covered.
    for part in reversed(cat_head(rng) if kind == "cat" else dog_head(rng)):
        canvas.draw(part, head, look)
    for part in body_of(kind, rng):
        canvas.draw(part, body, look)

    light = np.array([rng.normal(0, 0.55), rng.uniform(0.4, 1.0), rng.uniform(0.6, 1.0)])
    light /= np.sqrt((light**2).sum())
    warmth = rng.normal(0, 0.035)
    tint = np.array([1 + warmth, 1, 1 - warmth], np.float32) * np.float32(rng.uniform(0.9, 1.08))
    animal = canvas.shaded(light, tint, rng.uniform(0.38, 0.52))

    coverage = halved((canvas.depth > -4).astype(np.float32))[..., None]
    ground = body.origin[1] + body.scale * (FLOOR[kind] + 0.05)
    shade = _ground_shadow(body.origin[0], ground, body.scale)
    picture = background * tint * shade[..., None] * (1 - coverage) + halved(animal)
    grain = rng.uniform(0.004, 0.02) * rng.standard_normal(picture.shape, np.float32)
    return (np.clip(picture + grain, 0, 1) * 255 + 0.5).astype(np.uint8)


def training_rendering(kind: str, number: int) -> np.ndarray:
    """Rendering `number` (0, 1, ...) of a `kind` from the range reserved for training, (128, 128, 3) uint8.

    `renderings` yields none of these.

    Raises
    ------
    ValueError
        `number` is negative, or `kind` is not in `KINDS`.
    """
    if number < 0:
        raise ValueError(f"The number is {number}; it must be 0 or more.")
    return render(kind, _TRAINING_START + number)


def rendering_name(kind: str, number: int) -> str:
    """The file name of rendering `number` of a `kind`, such as `cat.rendered.00017.png`."""
    return f"{kind}.rendered.{number:05d}.png"


def renderings(count: int, seed: int = 0) -> Iterator[tuple[str, int, np.ndarray]]:
    """Render cats (class 0) and dogs (class 1) alternately, each when it is requested.

    Parameters
    ----------
    count
        Number of images, at most a million.
    seed
        0 to 999; each seed has a million images of its own, none of them in the training range.

    Returns
    -------
    An iterator of (name, class index, image (128, 128, 3) uint8).

    Raises
    ------
    ValueError
        `count` or `seed` is out of range; raised at the call.
    """
    if not 0 <= count <= _BLOCK:
        raise ValueError(f"The count is {count}; it must be from 0 to {_BLOCK}.")
    last = _TRAINING_START // _BLOCK - 1
    if not 0 <= seed <= last:
        raise ValueError(f"The seed is {seed}; it must be from 0 to {last}.")
    return (_numbered(seed * _BLOCK + number, number % 2) for number in range(count))


def _numbered(number: int, label: int) -> tuple[str, int, np.ndarray]:
    return rendering_name(KINDS[label], number), label, render(KINDS[label], number)
