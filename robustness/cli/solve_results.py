"""Prints the results of `robustness solve`, and says of each whether it converged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustness.optimization.regression.least_squares import Fit
    from robustness.optimization.spherical_codes.spread import Spread


def show_fits(fits: Mapping[str, Fit], exact: Fit) -> None:
    """Print the fits beside the exact one, and a sentence for each that did not converge."""
    from rich.table import Table
    from rich.text import Text

    from robustness.cli.terminal import stdout

    ways = {**fits, "exact": exact}
    title = "mean squared error" if exact.kind == "least squares" else "mean log-loss"
    measure = "R²" if exact.kind == "least squares" else "McFadden's R²"
    names = [*exact.names, "intercept"]
    columns = {
        name: [
            *(f"{value:.6g}" for value in (*fit.coefficients, fit.intercept)),
            f"{fit.loss:.6g}",
            f"{fit.r2:.4f}",
            str(len(fit.history) - 1) if name in fits else "-",
        ]
        for name, fit in ways.items()
    }
    columns["standard error"] = [*(f"{error:.3g}" for error in exact.standard_errors), "", "", ""]
    rows = [*names, title, measure, "steps"]
    # Many optimizers are rows, few are columns, so that the longer side is vertical.
    down = len(ways) > 3 and len(ways) >= len(names)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("" if down else "parameter", no_wrap=True)
    for name in rows if down else columns:
        table.add_column(Text(name), justify="right", no_wrap=True)
    across = (
        columns if down else {row: [c[i] for c in columns.values()] for i, row in enumerate(rows)}
    )
    for name, values in across.items():
        table.add_row(Text(name), *values)
    console = stdout()
    console.print(table, width=max(console.width, console.measure(table).minimum))
    for name, fit in ways.items():
        if not fit.converged:
            console.print(unconverged(name, fit, exact), markup=False, soft_wrap=True)


def unconverged(name: str, fit: Fit, exact: Fit) -> str:
    """Return the sentence about a fit that did not reach the optimum."""
    from robustness.optimization.descent import SPENT

    if fit is exact:
        return f"{name} did not converge: {fit.status}."
    steps = len(fit.history) - 1
    measure = "mean squared error" if exact.kind == "least squares" else "mean log-loss"
    reason = "" if fit.status == SPENT else f" ({fit.status})"
    return (
        f"{name} did not converge in {steps} step{'s' if steps != 1 else ''}{reason}: its {measure} is "
        f"{fit.loss:.6g}, the optimum's {exact.loss:.6g}, and its parameters are those where it stopped. "
        f"Raise --steps, give --standardize or another --learning-rate, or take --method exact."
    )


def show_spread(result: Spread, loss: str) -> None:
    """Print the smallest angle of spread vectors beside its bound, and how the solver ended."""
    import math

    from rich.table import Table

    from robustness.cli.terminal import stdout

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    reach = "optimum" if result.bound.exact else "upper bound"
    table.add_row("smallest angle", f"{result.angle:.7f}°")
    table.add_row("its cosine", f"{result.cosine:.10f}")
    table.add_row(f"energy (1 / distance^{result.power:g})", f"{result.energy:.9f}")
    table.add_row(f"{reach} ({result.bound.name})", f"{math.degrees(result.bound.angle):.7f}°")
    table.add_row("gap", f"{result.gap:.3g}°")
    console = stdout()
    console.print(table)
    console.print(ending(result, loss), markup=False, soft_wrap=True)


def show_spreads(found: Mapping[str, Spread]) -> None:
    """Print the smallest angles that several losses reach, and the bound."""
    import math

    from rich.table import Table

    from robustness.cli.terminal import stdout

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("loss")
    for title in ("smallest angle", "gap", "at the start", "best step", "steps"):
        table.add_column(title, justify="right", no_wrap=True)
    for loss, result in found.items():
        steps = len(result.history) - 1
        if steps < 0:  # one vector, which has no neighbour
            table.add_row(loss, f"{result.angle:.4f}°", "-", "-", "-", "-")
            continue
        first, best = result.history[0], int(result.history.argmax())
        angles = (f"{result.angle:.4f}°", f"{result.gap:.3g}°", f"{first:.4f}°")
        table.add_row(loss, *angles, str(best), str(steps))
    bound = next(iter(found.values())).bound
    reach = "The optimum" if bound.exact else "The upper bound"
    console = stdout()
    console.print(table, width=max(console.width, console.measure(table).minimum))
    sentence = f"{reach} ({bound.name}) is {math.degrees(bound.angle):.4f}°."
    console.print(f"{sentence} {_UNSTOPPED}", markup=False, soft_wrap=True)


_UNSTOPPED = (
    "The losses angle, variance and force have no stopping rule: they take all their steps, and the best one "
    "counts."
)


def ending(result: Spread, loss: str) -> str:
    """Return how the solver of a spread ended, in a sentence."""
    if result.converged:
        return "converged"
    if loss != "energy":
        return f"{_UNSTOPPED} Here it is step {int(result.history.argmax())} of {len(result.history) - 1}."
    return f"did not converge: {result.status}. Raise --steps or --restarts for a better result."
