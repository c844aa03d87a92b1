"""Every case of a run as data for the page's case browser: rows, thumbnails, whole pictures.

A case is one image under one attack: its flip at the smallest epsilon, or else its outcome at the
largest. Whole pictures are part of the page; if that would make it too large, they go into files beside
it. A page that was opened as a file may show a picture file, but neither read its pixels nor fetch it.
So these files are small pages, which send their pictures to the report in a message.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from robustness.errors import RunError
from robustness.images.png import open_png
from robustness.reports import wording
from robustness.reports.page.case_panels import class_shares
from robustness.reports.summary.cases import CaseRow, best_cases, worst_first
from robustness.reports.summary.metrics import FLIPPED, SETTLED, STATUSES, UNREADABLE
from robustness.reports.summary.summary import Summary
from robustness.reports.summary.tables import ReadableRun, complete, distance_columns, whole
from robustness.threat.norms import NORMS, Norm, described, has_own_column

INLINE = 20_000_000
"""Most characters of pictures in the page."""
SHARD = 2_000_000
"""Characters of pictures in one file beside the page; the last picture may exceed it."""
THUMBS = 15_000_000
"""Most characters of thumbnails; cases further down the list have none."""
THUMB = 80
"""Longer side of a thumbnail, in pixels."""
TINY = 48
"""Longest side of a picture, in pixels, whose thumbnail is exact."""
MOST_CASES = 50_000
"""Most cases in the page: some 10 MB of text, which a browser filters at once."""
STRIPS = 200
"""Most cases whose steps the browser shows; the audit keeps a few for each attack."""

WritePictures = Callable[[dict[int, str]], str]
"""Writes pictures (number to base64 text) into a file beside the page, and returns its name."""

BEFORE = (
    *("image", "attack", "status", "epsilon", "after", "confidence"),
    *("step", "forward", "backward", "restart"),
)
AFTER = ("flip", "strip", "reason")
"""The fields of a case before and after its distances."""


def browser_data(
    run: ReadableRun, summary: Summary, write_pictures: WritePictures | None = None
) -> dict[str, Any]:
    """Return all cases of a run as JSON-able data; every text is made visible.

    Parameters
    ----------
    run, summary
        The run, and its summary.
    write_pictures
        Where pictures go that do not fit into the page; without it all stay in the page.

    Returns
    -------
    dict
        `images`: name, label, predicted class, confidence, number of the original picture, number of
        the thumbnail. `cases`: the values that `fields` names. -1 or None stands for a missing value.
        `pictures` in the page, or `files` beside it, and `shards`: the file of each picture. `left_out`:
        how many cases beyond `MOST_CASES` are not in the page; the worst of each outcome are.
    """
    images = complete(run.images(), "images").sort_values("position", kind="stable")
    outcomes = complete(run.outcomes(), "outcomes", summary.norm)
    strips = complete(run.strips(), "strips")
    names = summary.class_names
    pictures = _Pictures(run, write_pictures)
    # A flip with neither picture nor steps is behind all others, and has no steps to show.
    some = outcomes[outcomes["png"].notna() | outcomes["image"].isin(strips["image"])]
    cases_with_steps = {
        (c.image, c.attack, c.epsilon): c for c in best_cases(images, some, strips, STRIPS)
    }
    every = _rows(images, outcomes, summary.norm)
    rows = _shown(every, images)
    images = images[images["key"].isin(set(rows["image"]))] if len(rows) < len(every) else images
    place = {key: number for number, key in enumerate(images["key"])}
    originals = dict(zip(images["key"], images["png"], strict=True))
    thumbs: list[str] = []
    numbers: dict[int, tuple[int, int]] = {}
    cases: list[list[Any]] = []
    steps: list[list[Any]] = []
    for row in rows.to_dict("records"):
        number = place.get(row["image"], -1)
        if number < 0:
            continue
        if number not in numbers:
            numbers[number] = pictures.with_thumbnail(originals[row["image"]], thumbs)
        case = cases_with_steps.get((row["image"], row["attack"], row["epsilon"]))
        strip = -1
        if row["status"] == FLIPPED and case is not None and case.steps:
            strip = len(steps)
            steps.append(_steps(case, names, pictures))
        cases.append(_case(row, number, summary, pictures, strip))
    return {
        "names": [wording.visible(name) for name in names],
        "attacks": [wording.visible(name) for name in summary.attacks],
        "statuses": list(STATUSES),
        "outcome_names": [wording.SHORT_STATUSES.get(status, status) for status in STATUSES],
        "fields": [*BEFORE, *distance_columns(summary.norm), *AFTER],
        "distances": [[norm.column, norm.title] for norm in _norms(summary.norm)],
        "images": [
            [
                *(wording.visible(str(row["name"] or row["key"])), whole(row["label"])),
                *(whole(row["clean_class"]), _known(row["confidence"], 6)),
                *numbers.get(number, (-1, -1)),
            ]
            for number, row in enumerate(images.to_dict("records"))
        ],
        "cases": cases,
        "steps": steps,
        "thumbs": thumbs,
        "left_out": len(every) - len(rows),
        **pictures.finish(),
    }


def _rows(images: pd.DataFrame, outcomes: pd.DataFrame, norm: str) -> pd.DataFrame:
    """One row per case, in the order of the browser: flips (worst first), robust images, the others."""
    # An image that an attack did not run on is no case: the attack that flipped it shows it.
    outcomes = outcomes[outcomes["status"] != SETTLED]
    flips = outcomes[outcomes["status"] == FLIPPED].sort_values("epsilon", kind="stable")
    flips = flips.drop_duplicates(["image", "attack"])
    flips = worst_first(images, flips, norm)
    rest = outcomes.sort_values("epsilon", ascending=False, kind="stable")
    rest = rest.drop_duplicates(["image", "attack"])
    flipped = pd.MultiIndex.from_frame(flips[["image", "attack"]])
    rest = rest[~pd.MultiIndex.from_frame(rest[["image", "attack"]]).isin(flipped)]
    rest = rest[rest["status"] != FLIPPED]
    spared = rest["status"].isin(STATUSES[3:])
    once = rest[spared].drop_duplicates("image").assign(attack=None, epsilon=np.nan)
    order = {status: number for number, status in enumerate(STATUSES)}
    place = dict(zip(images["key"], range(len(images)), strict=True))
    others = pd.concat([rest[~spared], once]) if spared.any() else rest
    others = others.assign(
        rank=others["status"].map(order).astype("float64"),
        place=others["image"].map(place).astype("float64"),
    ).sort_values(["rank", "place"], kind="stable")
    kept = list(outcomes.columns)
    parts = [part[kept] for part in (flips, others) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else outcomes


def _shown(rows: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """At most `MOST_CASES` of the cases, in order: of every outcome a part, those with pictures first."""
    if len(rows) <= MOST_CASES:
        return rows
    pictured = rows["png"].notna() | rows["image"].isin(images["key"][images["png"].notna()])
    first = rows.assign(bare=~pictured).sort_values("bare", kind="stable")
    place = first.groupby("status", sort=False).cumcount()
    # The outcomes take turns, so that one with few cases is whole.
    return rows.loc[place.sort_values(kind="stable").index[:MOST_CASES].sort_values()]


def _norms(name: str) -> list[Norm]:
    """The norms whose distances a case shows, that of the run last where it has a column of its own."""
    own = described(name)
    return [NORMS[known] for known in sorted(NORMS)] + ([own] if has_own_column(own) else [])


def _case(
    row: Mapping[Any, Any],
    image: int,
    summary: Summary,
    pictures: _Pictures,
    strip: int,
) -> list[Any]:
    attacks = summary.attacks
    reason = wording.visible(str(row["reason"] or ""))
    unreadable = row["status"] == UNREADABLE
    return [
        image,
        attacks.index(row["attack"]) if row["attack"] in attacks else -1,
        STATUSES.index(row["status"]),
        _known(row["epsilon"]),
        whole(row["adversarial_class"]),
        None if unreadable else _known(row["confidence_after"], 6),
        *(whole(row[name]) for name in ("step", "forward", "backward", "restart")),
        *(whole(row[name]) for name in ("l0", "components")),
        *(_known(row[name]) for name in distance_columns(summary.norm)[2:]),
        pictures.add(row["png"]) if row["status"] == FLIPPED else -1,
        strip,
        reason,
    ]


def _steps(case: CaseRow, names: tuple[str, ...], pictures: _Pictures) -> list[Any]:
    """For each step its number, its picture, and for each bar: class, share, wins, look."""
    return [
        [
            step.number,
            pictures.add(step.png),
            [
                [wording.visible(bar.name), round(bar.share, 6), bar.wins, bar.look]
                for bar in class_shares(step, case, names)
            ],
        ]
        for step in case.steps
    ]


def _known(value: float | None, digits: int = 9) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


class _Pictures:
    """Whole pictures by number, each once; in the page until they no longer fit."""

    def __init__(self, run: ReadableRun, write_pictures: WritePictures | None) -> None:
        self._run, self._write = run, write_pictures
        self._numbers: dict[str, int] = {}
        self._in_page: dict[int, str] = {}
        self._size, self._total, self._thumbs = 0, 0, 0
        self._files: list[str] = []
        self._where: dict[int, int] = {}
        self._problems: dict[int, str] = {}

    def add(self, name: str | None) -> int:
        """Return the number of a picture of the run; -1 without one."""
        if not name:
            return -1
        if name not in self._numbers:
            self._numbers[name] = len(self._numbers)
            self._keep(self._numbers[name], self._bytes(name))
        return self._numbers[name]

    def with_thumbnail(self, name: str | None, thumbs: list[str]) -> tuple[int, int]:
        """Return the numbers of a picture and of its thumbnail, which is added to `thumbs`."""
        number = self.add(name)
        wanted = number >= 0 and self._thumbs < THUMBS
        small = self._small(name) if wanted and name else None
        if small is None:
            return number, -1
        thumbs.append(small)
        self._total += len(small)
        self._thumbs += len(small)
        return number, len(thumbs) - 1

    def finish(self) -> dict[str, Any]:
        """Return the pictures of the page or their files, and the problems of single pictures."""
        problems = {str(n): problem for n, problem in self._problems.items()}
        if self._files:
            self._write_file()
            shards = [self._where.get(n, -1) for n in range(len(self._numbers))]
            return {"pictures": None, "files": self._files, "shards": shards, "problems": problems}
        pictures = [self._in_page.get(n, "") for n in range(len(self._numbers))]
        return {"pictures": pictures, "files": [], "shards": [], "problems": problems}

    def _bytes(self, name: str) -> bytes:
        number = self._numbers[name]
        try:
            data = self._run.png(name)
        except RunError:
            self._problems[number] = "A picture of this case is missing from the run."
            return b""
        if hashlib.sha256(data).hexdigest() != PurePosixPath(name).stem:
            self._problems[number] = (
                "A picture of this case is not the file that the audit saved. Do not trust this case."
            )
            if not _whole_picture(data):
                self._problems[number] = (
                    "A picture of this case cannot be read: the file is damaged."
                )
                return b""
        return _without_alpha(data)

    def _keep(self, number: int, data: bytes) -> None:
        if not data:
            return
        text = base64.b64encode(data).decode("ascii")
        self._in_page[number] = text
        self._size += len(text)
        self._total += len(text)
        if self._write is None:
            return
        if self._files:
            if self._size >= SHARD:
                self._write_file()
        elif self._total > INLINE:
            self._overflow()

    def _overflow(self) -> None:
        """Move the pictures of the page into files, as many as fit into each."""
        pictures, self._in_page = self._in_page, {}
        self._size = 0
        for number, text in pictures.items():
            self._in_page[number] = text
            self._size += len(text)
            if self._size >= SHARD:
                self._write_file()
        self._write_file()

    def _write_file(self) -> None:
        if self._write is None or not self._in_page:
            return
        for number in self._in_page:
            self._where[number] = len(self._files)
        self._files.append(self._write(self._in_page))
        self._in_page, self._size = {}, 0

    def _small(self, name: str) -> str | None:
        try:
            with open_png(self._run.png(name)) as picture:
                small = picture.convert("RGB")
        except (RunError, OSError, ValueError, SyntaxError):
            return None
        tiny = max(small.size) <= TINY
        small.thumbnail((THUMB, THUMB), Image.Resampling.BOX)
        buffer = io.BytesIO()
        # A JPEG of few pixels, enlarged, would show its blocks instead of the picture.
        small.save(buffer, "PNG") if tiny else small.save(buffer, "JPEG", quality=82)
        return base64.b64encode(buffer.getvalue()).decode("ascii")


def _whole_picture(data: bytes) -> bool:
    try:
        with open_png(data) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


_COLOUR_TYPE = 25
_TRANSPARENT = (4, 6)


def _without_alpha(data: bytes) -> bytes:
    """Remove transparency from a PNG, since a browser would mix the colours with it."""
    if len(data) <= _COLOUR_TYPE or data[_COLOUR_TYPE] not in _TRANSPARENT:
        return data
    try:
        with open_png(data) as picture:
            flat = np.asarray(picture)[..., : 3 if picture.mode == "RGBA" else 1]
    except (OSError, ValueError, SyntaxError):
        return b""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(flat.squeeze())).save(buffer, "PNG")
    return buffer.getvalue()
