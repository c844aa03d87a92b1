"""The commands `robustness solve`: run the toolkit's solvers (regression, vectors) without an audit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from robustness.optimization.regression.least_squares import Fit
    from robustness.optimization.spherical_codes.spread import Spread

app = typer.Typer(
    help="Run a solver alone: fit a line by descent, spread vectors, or choose spread vectors.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def regression(
    table: Annotated[Path, typer.Argument(help="A CSV file with a header.")],
    x: Annotated[
        list[str],
        typer.Option("--x", help="Feature column; repeat it, or separate names by commas."),
    ],
    y: Annotated[str, typer.Option("--y", help="Target column.")],
    optimizer: Annotated[str, typer.Option(help="Name of a Keras optimizer.")] = "sgd",
    learning_rate: Annotated[
        float | None, typer.Option(help="Default: 1 / curvature for sgd, 0.1 for the others.")
    ] = None,
    rates: Annotated[
        str,
        typer.Option(help="Factors on each parameter's step, separated by commas, intercept last."),
    ] = "",
    start: Annotated[
        str,
        typer.Option(
            help="Initial parameters, separated by commas, intercept last: numbers or `exact`."
        ),
    ] = "",
    steps: Annotated[int, typer.Option(min=1, help="Number of steps of the descent.")] = 100,
    method: Annotated[str, typer.Option(help="descent or exact.")] = "descent",
    standardize: Annotated[
        bool, typer.Option("--standardize", help="Descend on columns of mean 0 and deviation 1.")
    ] = False,
    logistic: Annotated[bool, typer.Option("--logistic", help="Targets are 0 and 1.")] = False,
    ridge: Annotated[float, typer.Option(min=0, help="Penalty on squared coefficients.")] = 0.0,
    weights: Annotated[str, typer.Option(help="Column of weights.")] = "",
    compare: Annotated[
        str, typer.Option(help="Optimizers, separated by commas, for one table and plot.")
    ] = "",
    plot: Annotated[Path | None, typer.Option(help="Write a .gif or .png.")] = None,
) -> None:
    """Fit a column of a CSV file by descent, and compare with the exact solution.

    \b
    Examples:
      robustness solve regression heights.csv --x Height --y Weight --standardize
      robustness solve regression heights.csv --x Height --y Weight --optimizer adam \\
        --learning-rate 0.1 --steps 50 --plot fit.gif
      robustness solve regression heights.csv --x Height --y Weight --standardize \\
        --compare sgd,rmsprop,adam --plot compare.gif
    """
    _picture(plot)
    from robustness.cli.terminal import wake_backend
    from robustness.errors import SettingError

    if method not in ("descent", "exact"):
        raise SettingError(f"--method {method} is not known; expected descent or exact.")
    features = [name.strip() for part in x for name in part.split(",") if name.strip()]
    if not features:
        raise SettingError(f"--x {','.join(x)} names no column; expected one or more column names.")
    wanted = [*features, y, *([weights] if weights else [])]
    data = _columns(table, wanted)
    mass = data[weights].to_numpy() if weights else None
    rows, target = data[features].to_numpy("float64"), data[y].to_numpy("float64")
    factors = _numbers(rates, "--rates") or 1.0
    if isinstance(factors, list) and len(factors) not in (1, len(features) + 1):
        raise SettingError(
            f"--rates {rates}; expected {len(features) + 1} numbers, the intercept last."
        )
    wake_backend()
    from robustness.optimization.regression import least_squares as solver
    from robustness.optimization.regression.logistic import logistic as fit_logistic

    solve = fit_logistic if logistic else solver.least_squares
    common: dict[str, Any] = {"weights": mass, "ridge": ridge, "names": features}
    exact = solve(rows, target, method="exact", **common)
    fits: dict[str, Fit] = {}
    if method == "descent":
        for name in [part.strip() for part in (compare or optimizer).split(",") if part.strip()]:
            how = solver.Descent(
                optimizer=name,
                learning_rate=learning_rate,
                rates=factors,
                start=_start(start, exact),
                steps=steps,
                standardize=standardize,
            )
            fits[name] = solve(rows, target, method=how, **common)
    _show_fits(fits, exact)
    if plot:
        shown = {"logistic": logistic, "weights": mass, "ridge": ridge}
        _plot_fits(plot, rows, target, fits or {"exact": exact}, exact, y, **shown)


def _columns(table: Path, names: list[str]) -> pd.DataFrame:
    """Read the named columns as numbers; SettingError if the file, a column or a cell is unusable."""
    import pandas as pd

    from robustness.errors import SettingError
    from robustness.text import did_you_mean

    try:
        data = pd.read_csv(table, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise SettingError(f"{table} cannot be read as a CSV file: {error}.") from error
    for name in names:
        if name not in data.columns:
            hint = did_you_mean(name, map(str, data.columns))
            have = ", ".join(str(c) for c in data.columns)
            raise SettingError(f"{table.name} has no column {name!r}; it has {have}.{hint}")
        numbers = pd.to_numeric(data[name], errors="coerce")
        bad = numbers.isna() & data[name].notna()
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise SettingError(
                f"{name} is {data[name].iloc[row]!r} in row {row} of {table.name}; expected numbers."
            )
        data[name] = numbers
    return data[list(dict.fromkeys(names))]


def _numbers(text: str, option: str) -> list[float] | None:
    from robustness.errors import SettingError

    if not text:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(f"{option} {text}; expected numbers separated by commas.") from error


def _start(text: str, exact: Fit) -> list[float] | None:
    """Parse the initial parameters; `exact` stands for the exact solution's number in that position."""
    from robustness.errors import SettingError

    parts = text.split(",") if text else []
    best = [*exact.coefficients, exact.intercept]
    if parts and len(parts) != len(best):
        raise SettingError(f"--start {text}; expected {len(best)} numbers, the intercept last.")
    words = [
        repr(float(b)) if part.strip() == "exact" else part
        for part, b in zip(parts, best, strict=False)
    ]
    return _numbers(",".join(words), "--start")


def _show_fits(fits: dict[str, Fit], exact: Fit) -> None:
    from rich.table import Table
    from rich.text import Text

    from robustness.cli.terminal import stdout

    ways = fits | {"exact": exact}
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
            console.print(f"{name}: {fit.status}", markup=False, soft_wrap=True)


def _plot_fits(
    plot: Path,
    rows: np.ndarray,
    target: np.ndarray,
    fits: dict[str, Fit],
    exact: Fit,
    title: str,
    **how: Any,
) -> None:
    import numpy as np

    from robustness.reports.solver_plots.plots import Way, plot_fit

    ways = [Way(name, fit.path, fit.history) for name, fit in fits.items()]
    best = np.append(exact.coefficients, exact.intercept)
    plot_fit(plot, rows, target, ways, best, (exact.names[0], title), **how)
    typer.echo(f"wrote {plot}")


@app.command()
def spread(
    count: Annotated[int, typer.Option(help="Number of vectors.")],
    dim: Annotated[int, typer.Option(help="Number of dimensions.")],
    loss: Annotated[str, typer.Option(help="energy, angle, variance or force.")] = "energy",
    power: Annotated[
        float | None,
        typer.Option(help="Stop at this exponent of the energy: 1 is Thomson's problem."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random starts.")] = 0,
    restarts: Annotated[
        int | None, typer.Option(help="Number of random starts; chosen by size if not given.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps, or of evaluations in a stage.")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="For angle, variance, force.")] = "adam",
    learning_rate: Annotated[float | None, typer.Option(help="For angle, variance, force.")] = None,
    antipodal: Annotated[bool, typer.Option("--antipodal", help="Spread lines.")] = False,
    start: Annotated[Path | None, typer.Option(help="Warm start, a .npy file.")] = None,
    fixed: Annotated[
        Path | None, typer.Option(help="Vectors that do not move, a .npy file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a .gif or .png.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the vectors as .npy.")] = None,
) -> None:
    """Spread unit vectors as far apart as possible, and print the gap to the best known bound.

    \b
    Examples:
      robustness solve spread --count 20 --dim 2 --loss force --plot spread.gif
      robustness solve spread --count 24 --dim 4 --save cell.npy
      robustness solve spread --count 12 --dim 3 --power 1
    """
    _picture(plot)
    if save is not None:
        _writable(save)
    begin, kept = _vectors(start), _vectors(fixed)
    from robustness.cli.terminal import wake_backend

    wake_backend()
    from robustness.optimization.spherical_codes import spread as spreading

    result = spreading.spread(
        count,
        dim,
        loss=loss,
        power=power,
        seed=seed,
        restarts=restarts,
        start=begin,
        fixed=kept,
        antipodal=antipodal,
        steps=steps,
        optimizer=optimizer,
        learning_rate=learning_rate,
        path=plot is not None,
    )
    _show_spread(result)
    if save is not None:
        import numpy as np

        np.save(save, result.vectors, allow_pickle=False)
        typer.echo(f"wrote {save}")
    if plot is not None:
        import math

        from robustness.reports.solver_plots.plots import plot_spread

        path = result.path if result.path is not None else result.vectors[None]
        title, most = f"{count} in {dim}-D by {loss}", math.degrees(result.bound.angle)
        plot_spread(plot, path, most, title, fixed=kept, antipodal=antipodal)
        typer.echo(f"wrote {plot}")


@app.command()
def choose(
    rows: Annotated[Path, typer.Argument(help="Vectors, one in each row of a .npy file.")],
    count: Annotated[int, typer.Option(help="Number of rows to choose.")],
    save: Annotated[Path | None, typer.Option(help="Write the chosen rows as .npy.")] = None,
) -> None:
    """Choose the most widely spread rows of a set; print their indices and smallest angle.

    \b
    Example:
      robustness solve choose vectors.npy --count 10 --save ten.npy
    """
    if save is not None:
        _writable(save)
    given = _vectors(rows)
    from robustness.cli.terminal import stdout, wake_backend

    wake_backend()
    import numpy as np

    from robustness.optimization.spherical_codes.problem import degrees
    from robustness.optimization.spherical_codes.subset import choose as chosen_of
    from robustness.optimization.spherical_codes.subset import closest

    chosen = chosen_of(given, count)
    console = stdout()
    console.print(" ".join(map(str, chosen)), soft_wrap=True)
    if count > 1:
        console.print(f"smallest angle {degrees(closest(given, chosen)):.7f}°")
    if save is not None:
        np.save(save, np.asarray(given)[chosen], allow_pickle=False)
        typer.echo(f"wrote {save}")


def _picture(path: Path | None) -> None:
    from robustness.reports.solver_plots.canvas import writable

    if path is not None:
        writable(path)


def _writable(path: Path) -> None:
    from robustness.errors import SettingError

    if path.suffix != ".npy" or not path.parent.is_dir():
        raise SettingError(
            f"--save {path} is not usable; expected a .npy file in a folder that exists."
        )


def _vectors(path: Path | None) -> np.ndarray | None:
    from robustness.errors import SettingError
    from robustness.files.npy import read_npy

    if path is None:
        return None
    try:
        return read_npy(path)
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read as an array in .npy format: {error}.") from error


def _show_spread(result: Spread) -> None:
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
    console.print(result.status, markup=False, soft_wrap=True)
