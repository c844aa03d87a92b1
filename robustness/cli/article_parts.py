"""Computes the three parts of the article for `robustness article`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustness.errors import ImagesError, SettingError
from robustness.reports.article import printed
from robustness.reports.article.page import (
    FitRow,
    Flipping,
    Regression,
    Spreading,
    SpreadRow,
    Step,
    Strip,
)

if TYPE_CHECKING:
    from robustness.images import Source
    from robustness.models.classifier import Classifier
    from robustness.optimization.regression.least_squares import Fit
    from robustness.reports.article.printed import PrintedFit
    from robustness.runs.progress import Listener
    from robustness.runs.store import Run

SEED = 0
LOSSES = {
    "angle": "the smallest angle",
    "variance": "the smallest angle, less 0.4 times the variance of the nearest angles",
    "force": "the net force that the others exert on each vector",
}
"""The losses of spreading in words."""


def heights(folder: Path | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Return heights in inches, weights in pounds, and the source of both in words.

    Without a folder they are drawn around a line, with the article's spread and number.

    Raises
    ------
    SettingError
        The folder has no usable table.
    """
    if folder is None:
        rng = np.random.default_rng(SEED)
        x = rng.normal(69.1, 2.5, printed.ROWS)
        y = 6.0 * x - 229.0 + rng.normal(0.0, 11.3, printed.ROWS)
        return x, y, f"{printed.ROWS} synthetic heights and weights (seed {SEED})"
    from robustness.cli.solve import read_columns

    table = folder / printed.TABLE
    if not table.is_file():
        raise SettingError(
            f"{folder} has no {printed.TABLE}; expected the article's data: that table, and photographs. "
            "Leave --data out for bundled images and synthetic heights."
        )
    data = read_columns(table, [printed.FEATURE, printed.TARGET])
    x, y = (data[name].to_numpy("float64") for name in (printed.FEATURE, printed.TARGET))
    return x, y, f"{len(x)} rows of {table.name}"


def fitted(x: np.ndarray, y: np.ndarray) -> dict[str, Fit]:
    """Fit heights and weights with every method of the article; return the fits by its name."""
    from robustness.optimization.regression.least_squares import Descent, least_squares

    exact = least_squares(x, y)
    best = np.append(exact.coefficients, exact.intercept)
    fits = {}
    for one in printed.FITS:
        fits[one.name] = exact
        if not one.exact:
            start = [
                b if given is None else given for given, b in zip(one.start, best, strict=True)
            ]
            settings: dict[str, Any] = dict(one.how)
            fits[one.name] = least_squares(x, y, method=Descent(start=start, **settings))
    return fits


def regression(
    fits: Mapping[str, Fit], data: tuple[np.ndarray, np.ndarray, str], out: Path
) -> Regression:
    """Compare fits with the printed ones, and draw two animations; `out` is the folder for them."""
    from robustness.reports.solver_plots.plots import Way, plot_fit

    x, y, source = data
    rows, own = compared(fits, len(x))
    exact = fits[printed.FITS[0].name]
    best = np.append(exact.coefficients, exact.intercept)
    names = [one.name for one in printed.FITS if not one.exact]
    pictures = {"descent.gif": names[:1], "optimizers.gif": names[2:]}
    for file, shown in pictures.items():
        # The canvas has no minus sign, which the name of a method may hold.
        short = {name: name.partition(" from ")[0] for name in shown}
        ways = [
            Way(short[name], fits[name].path, fits[name].history, "not converged") for name in shown
        ]
        titles = (printed.FEATURE, printed.TARGET)
        plot_fit(out / file, x[:, None], y, ways, best, titles)
    return Regression(source, own, rows, out / "descent.gif", out / "optimizers.gif")


def compared(fits: Mapping[str, Fit], count: int) -> tuple[list[FitRow], bool]:
    """Return the fits beside the printed ones, and whether the data are the article's.

    They are if the number of rows and the exact solution are the printed ones.
    """
    rows = [_row(one, fits[one.name]) for one in printed.FITS]
    return rows, count == printed.ROWS and rows[0].agrees


def _row(one: PrintedFit, fit: Fit) -> FitRow:
    # The notebook records the loss, then takes the step.
    loss = fit.loss if one.exact else float(fit.history[-2])
    return FitRow(one, float(fit.coefficients[0]), fit.intercept, loss)


def spreading(out: Path) -> Spreading:
    """Spread vectors with the three losses from one start, and write an animation into `out`."""
    from robustness.optimization.spherical_codes.spread import spread
    from robustness.reports.solver_plots.spread_plots import plot_spreads

    found = {
        loss: spread(printed.COUNT, printed.DIMENSIONS, loss=loss, seed=SEED, restarts=1, path=True)
        for loss in LOSSES
    }
    rows = [
        SpreadRow(
            loss,
            LOSSES[loss],
            result.angle,
            float(result.history[0]),
            int(result.history.argmax()),
            len(result.history) - 1,
        )
        for loss, result in found.items()
    ]
    bound = math.degrees(next(iter(found.values())).bound.angle)
    paths = {loss: result.path for loss, result in found.items() if result.path is not None}
    title = f"{printed.COUNT} vectors from the same start"
    plot_spreads(out / "spread.gif", paths, bound, title)
    return Spreading(rows, bound, out / "spread.gif")


def photographs(folder: Path | None) -> Source:
    """Return the article's photographs, or without a folder a real cat and a rendered dog.

    Raises
    ------
    ImagesError
        The folder has no picture.
    """
    from robustness.model_zoo.dogs_vs_cats.demo import Pets

    if folder is None:
        return Pets(1, first=1)
    from robustness.images import open_source

    source = open_source(folder)
    if not source.entries():
        raise ImagesError(f"{folder} has no pictures; expected the article's photographs.")
    return source


def flipping(model: Classifier, source: Source, out: Path, progress: Listener) -> Flipping:
    """Audit the images with the article's attack into `out`/run, and return the strips of its flips."""
    from robustness.auditing.audit import audit
    from robustness.runs.store import Run

    result = audit(
        model,
        source,
        attacks=["article"],
        epsilons=[4],
        all_steps=True,
        out=out / "run",
        progress=progress,
    )
    page = result.report()
    statuses = result.outcomes.status
    with Run.open(result.path) as run:
        strips = _strips(run)
        labelled = run.manifest.data.labelled
    flipped = int((statuses == "flipped").sum())
    return Flipping(
        model=model.name,
        source=source.description,
        flipped=flipped,
        correct=flipped + int((statuses == "robust").sum()),
        labelled=labelled,
        strips=strips,
        report=page.relative_to(out).as_posix(),
    )


def _strips(run: Run) -> list[Strip]:
    """The strips of a run, those of photographs with printed confidences first."""
    from robustness.images.png import from_png

    names = list(run.manifest.class_names)
    images = {row.key: row for row in run.image_rows()}
    strips = []
    for key, rows in run.strips().groupby("image", sort=False):
        steps = []
        for row in rows.sort_values("step").itertuples():
            shares = json.loads(str(row.probabilities))
            top = int(np.argmax(shares))
            pixels = from_png(run.png(str(row.png)))
            steps.append(Step(pixels, names[top], float(shares[top]), float(shares[0])))
        strips.append(Strip(images[str(key)].name, (names[0], names[-1]), steps))
    return sorted(strips, key=lambda strip: (not strip.printed, strip.name))
