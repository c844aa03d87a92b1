"""Drawings as inline SVG. The XML writer escapes all text; CSS classes of the page give the colours."""

from __future__ import annotations

from xml.etree import ElementTree

from markupsafe import Markup

from robustness.text import visible


class Drawing:
    """An SVG drawing in its own units; `says` is its description for screen readers."""

    def __init__(self, width: float, height: float, says: str, *, kind: str = "chart") -> None:
        self._root = ElementTree.Element(
            "svg", {"viewBox": f"0 0 {width:g} {height:g}", "class": kind, "role": "img"}
        )
        self._root.set("aria-label", visible(says))

    def stretched(self) -> Drawing:
        """Let the drawing fill its box, whatever the shape of the box."""
        self._root.set("preserveAspectRatio", "none")
        return self

    def line(self, x1: float, y1: float, x2: float, y2: float, look: str) -> None:
        """Draw a straight line."""
        self._add("line", look, x1=x1, y1=y1, x2=x2, y2=y2)

    def path(self, points: list[tuple[float, float]], look: str, *, closed: bool = False) -> None:
        """Draw a line through points, or fill the area that they enclose."""
        steps = " L".join(f"{x:.2f} {y:.2f}" for x, y in points)
        self._add("path", look, d=f"M{steps}{' Z' if closed else ''}")

    def rect(
        self, x: float, y: float, width: float, height: float, look: str, says: str = ""
    ) -> None:
        """Draw a rectangle, with the tooltip `says` if given."""
        self._add("rect", look, says, x=x, y=y, width=max(0.0, width), height=max(0.0, height))

    def dot(self, x: float, y: float, radius: float, look: str, says: str = "") -> None:
        """Draw a disc, with the tooltip `says` if given."""
        self._add("circle", look, says, cx=x, cy=y, r=radius)

    def text(self, x: float, y: float, words: str, look: str = "", anchor: str = "start") -> None:
        """Write a line of text at its baseline; `anchor` is start, middle or end."""
        element = self._add("text", look, x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = visible(words)

    def _add(
        self, tag: str, look: str, says: str = "", **values: float | str
    ) -> ElementTree.Element:
        element = ElementTree.SubElement(self._root, tag)
        if look:
            element.set("class", look)
        for name, value in values.items():
            element.set(
                name, value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
            )
        if says:
            ElementTree.SubElement(element, "title").text = visible(says)
        return element

    def markup(self) -> Markup:
        """Return the drawing as markup for a page."""
        # The XML writer has escaped every text in it.
        return Markup(ElementTree.tostring(self._root, encoding="unicode"))  # noqa: S704


class Axes:
    """Two axes with a light grid: they map data to places on the drawing."""

    def __init__(
        self,
        drawing: Drawing,
        box: tuple[float, float, float, float],
        across: tuple[float, float],
        up: tuple[float, float],
    ) -> None:
        self.drawing, self.box, self._across, self._up = drawing, box, across, up

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        low, high = self._across
        left, _, right, _ = self.box
        return left + (value - low) / ((high - low) or 1) * (right - left)

    def y(self, value: float) -> float:
        """Return the vertical place of a value."""
        low, high = self._up
        _, top, _, bottom = self.box
        return bottom - (value - low) / ((high - low) or 1) * (bottom - top)

    def ticks_across(self, values: list[float], words: list[str]) -> None:
        """Write labels under the drawing; a label that would overlap the last one is left out."""
        free = float("-inf")
        for value, word in zip(values, words, strict=True):
            place = self.x(value)
            half = 4.2 * len(word)
            if place - half < free:
                continue
            free = place + half + 6
            self.drawing.text(place, self.box[3] + 18, word, "tick", "middle")

    def ticks_up(self, values: list[float], words: list[str]) -> None:
        """Draw grid lines with labels at the left."""
        left, _, right, _ = self.box
        for value, word in zip(values, words, strict=True):
            self.drawing.line(left, self.y(value), right, self.y(value), "grid")
            self.drawing.text(left - 8, self.y(value) + 4, word, "tick", "end")
