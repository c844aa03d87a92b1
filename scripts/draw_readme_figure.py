"""Draw docs/images/flip.png: the cat of the README, the change that flips it, and the result.

python scripts/draw_readme_figure.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import robustness
from robustness.model_zoo.dogs_vs_cats.demo import Pets
from robustness.model_zoo.registry import load

TARGET = Path(__file__).parents[1] / "docs" / "images" / "flip.png"
SIDE, GAP, CAPTION = 256, 24, 56


def draw(panels: list[tuple[np.ndarray, str]]) -> Image.Image:
    """Put pictures (height, width, 3) side by side, each with its caption below."""
    width = len(panels) * SIDE + (len(panels) - 1) * GAP
    sheet = Image.new("RGB", (width, SIDE + CAPTION), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for number, (pixels, caption) in enumerate(panels):
        left = number * (SIDE + GAP)
        picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(picture, (left, 0))
        pen.multiline_text(
            (left + SIDE / 2, SIDE + 8), caption, "black", font, anchor="ma", align="center"
        )
    return sheet


def percent(confidence: float) -> str:
    """A confidence in words; one that rounds to 100 % is not certainty."""
    return "over 99.9 %" if confidence > 0.9995 else f"{100 * confidence:.1f} %"


def main() -> None:
    """Audit the README's example image and save the figure to `TARGET`."""
    result = robustness.audit(
        load("dogs-vs-cats"), Pets(0), attacks=["article"], epsilons=[4], all_steps=True
    )
    case = result.cases[0]
    amplified, factor = case.amplified
    panels = [
        (case.original, f"before:\n{case.before}, {percent(case.confidence_before)}"),
        (
            amplified,
            f"the change, at most {case.epsilon:g} counts\nof 255, shown {factor} times as large",
        ),
        (case.flipped, f"after:\n{case.after}, {percent(case.confidence_after)}"),
    ]
    TARGET.parent.mkdir(exist_ok=True)
    draw(panels).quantize(192).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
