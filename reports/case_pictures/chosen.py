"""Finds the flip of a run that is asked for by the name of its image."""

from __future__ import annotations

import pandas as pd

from robustness.errors import RunError, SettingError
from robustness.images.entries import key_of
from robustness.reports import wording
from robustness.reports.summary.cases import CaseRow, worst_cases
from robustness.reports.summary.metrics import FLIPPED
from robustness.reports.summary.tables import ReadableRun, complete
from robustness.text import did_you_mean, first_few


def chosen(
    run: ReadableRun, image: str, attack: str | None = None, epsilon: float | None = None
) -> CaseRow:
    """Return the worst flip of an image: the smallest change, of equal ones the highest confidence.

    Parameters
    ----------
    run
        The opened run.
    image
        The name of the image, its path in the run, or the end of that path.
    attack
        The attack, as in the report, with or without its parameters; any if None.
    epsilon
        The epsilon of the flip in counts; any if None.

    Raises
    ------
    SettingError
        If no image, or several, have that name, or no flip of it fits.
    RunError
        If the run kept no pictures of the flip.
    """
    norm = run.manifest.config.norm or ""
    images = complete(run.images(), "images")
    outcomes = complete(run.outcomes(), "outcomes", norm)
    row = _image(images, image)
    name = wording.shorten(str(row["name"] or row["key"]), 60)
    mine = outcomes[outcomes["image"] == row["key"]]
    flips = mine[mine["status"] == FLIPPED]
    if flips.empty:
        statuses = dict.fromkeys(wording.visible(str(s)) for s in mine["status"])
        known = " and ".join(statuses) or "not attacked"
        raise SettingError(
            f"{name} is no flip of this run: it is {known}. A case is a picture that an attack flips; the "
            "table of images in the report names them."
        )
    flips = _of_attack(flips, attack, name)
    flips = _within(flips, epsilon, name)
    strips = complete(run.strips(), "strips")
    cases = worst_cases(images[images["key"] == row["key"]], flips, strips, norm, 1)
    if not cases:
        raise RunError(
            f"The run kept no pictures of {name}. Audit with --evidence flips (or all), which keeps them."
        )
    return cases[0]


def _image(images: pd.DataFrame, image: str) -> pd.Series:
    keys, names = images["key"].astype(str), images["name"].fillna("").astype(str)
    image = key_of(image)
    exact = images[(keys == image) | (names == image)]
    ends = images[keys.str.endswith(f"/{image}") | names.str.endswith(f"/{image}")]
    fitting = exact if len(exact) else ends
    asked = wording.shorten(image, 60)
    if fitting.empty:
        hint = did_you_mean(image, [*names, *keys])
        some = first_few(names.where(names != "", keys))
        raise SettingError(f"The run has no image {asked!r}; it has {len(images):,}: {some}.{hint}")
    if len(fitting) > 1:
        raise SettingError(
            f"{len(fitting):,} images of the run are called {asked!r}: {first_few(fitting['key'])}. Name "
            "one by its path."
        )
    return fitting.iloc[0]


def _of_attack(flips: pd.DataFrame, attack: str | None, name: str) -> pd.DataFrame:
    if attack is None:
        return flips
    labels, attack = flips["attack"].astype(str), key_of(attack)
    fitting = flips[(labels == attack) | (labels.str.partition("(")[0] == attack)]
    if fitting.empty:
        raise SettingError(
            f"No attack {wording.shorten(attack, 60)!r} of the run flips {name}; these do: "
            f"{wording.listed(dict.fromkeys(labels))}."
        )
    return fitting


def _within(flips: pd.DataFrame, epsilon: float | None, name: str) -> pd.DataFrame:
    if epsilon is None:
        return flips
    fitting = flips[flips["epsilon"] == epsilon]
    if fitting.empty:
        known = ", ".join(f"{e:.12g}" for e in sorted(set(flips["epsilon"])))
        raise SettingError(f"{name} has no flip at epsilon {epsilon:.12g}; it has some at {known}.")
    return fitting
