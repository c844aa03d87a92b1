"""The commands `robustness solve`: run the toolkit's solvers (regression, vectors) without an audit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustness.errors import INCONCLUSIVE

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from robustness.optimization.regression.least_squares import Fit

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

    Exit code 4: no descent of the command converged, so that its figures are not those of the optimum.

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
    data = read_columns(table, wanted)
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
    from robustness.cli.solve_results import show_fits

    show_fits(fits, exact)
    fits = fits or {"exact": exact}
    if plot:
        shown = {"logistic": logistic, "weights": mass, "ridge": ridge}
        _plot_fits(plot, rows, target, fits, exact, y, **shown)
    if not any(fit.converged for fit in fits.values()):
        raise typer.Exit(INCONCLUSIVE)


def read_columns(table: Path, names: list[str]) -> pd.DataFrame:
    """Return the named columns as numbers; SettingError if the file, a column or a cell is unusable."""
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

    ways = [
        Way(name, fit.path, fit.history, "" if fit.converged else "not converged")
        for name, fit in fits.items()
    ]
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
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Angle, variance and force from one start, in one table and plot."
        ),
    ] = False,
    start: Annotated[Path | None, typer.Option(help="Warm start, a .npy file.")] = None,
    fixed: Annotated[
        Path | None, typer.Option(help="Vectors that do not move, a .npy file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a .gif or .png.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the vectors as .npy.")] = None,
) -> None:
    """Spread unit vectors as far apart as possible, and print the gap to the best known bound.

    Exit code 4: the energy's solver spent its stages before the conditions of an optimum held.

    \b
    Examples:
      robustness solve spread --count 20 --dim 2 --loss force --plot spread.gif
      robustness solve spread --count 20 --dim 2 --compare --plot losses.gif
      robustness solve spread --count 24 --dim 4 --save cell.npy
      robustness solve spread --count 12 --dim 3 --power 1
    """
    _picture(plot)
    if save is not None:
        _writable(save)
    begin, kept = _vectors(start), _vectors(fixed)
    from robustness.cli.terminal import wake_backend

    wake_backend()
    from robustness.cli import solve_results
    from robustness.optimization.spherical_codes import spread as spreading

    common: dict[str, Any] = {
        "seed": seed,
        "start": begin,
        "steps": steps,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
    }
    if compare:
        unusable = {
            "--loss": loss != "energy",
            "--power": power is not None,
            "--fixed": kept is not None,
            "--antipodal": antipodal,
            "--save": save is not None,
        }
        _compare_losses(count, dim, restarts or 1, common, plot, unusable)
        return
    result = spreading.spread(
        count,
        dim,
        loss=loss,
        power=power,
        restarts=restarts,
        fixed=kept,
        antipodal=antipodal,
        path=plot is not None,
        **common,
    )
    solve_results.show_spread(result, loss)
    if save is not None:
        _save(save, result.vectors)
    if plot is not None:
        import math

        from robustness.reports.solver_plots.spread_plots import plot_spread

        path = result.path if result.path is not None else result.vectors[None]
        title, most = f"{count} in {dim}-D by {loss}", math.degrees(result.bound.angle)
        plot_spread(plot, path, most, title, fixed=kept, antipodal=antipodal)
        typer.echo(f"wrote {plot}")
    if loss not in spreading.LOSSES and not result.converged:
        raise typer.Exit(INCONCLUSIVE)


def _compare_losses(
    count: int,
    dim: int,
    restarts: int,
    common: dict[str, Any],
    plot: Path | None,
    unusable: dict[str, bool],
) -> None:
    """Spread vectors with each loss of the article from the same starts; print and draw them together."""
    import math

    from robustness.cli import solve_results
    from robustness.errors import SettingError
    from robustness.optimization.spherical_codes import spread as spreading

    if given := [option for option, typed in unusable.items() if typed]:
        raise SettingError(
            f"--compare runs the losses {', '.join(spreading.LOSSES)}; leave out {', '.join(given)}."
        )
    found = {
        loss: spreading.spread(count, dim, loss=loss, restarts=restarts, path=True, **common)
        for loss in spreading.LOSSES
    }
    solve_results.show_spreads(found)
    if plot is not None:
        from robustness.reports.solver_plots.spread_plots import plot_spreads

        bound = math.degrees(next(iter(found.values())).bound.angle)
        paths = {
            loss: result.vectors[None] if result.path is None else result.path
            for loss, result in found.items()
        }
        plot_spreads(plot, paths, bound, f"{count} in {dim}-D from the same start")
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
        _save(save, np.asarray(given)[chosen])


def _save(path: Path, vectors: np.ndarray) -> None:
    """Write vectors as `.npy`, and say so."""
    import numpy as np

    from robustness.files import writing

    content = io.BytesIO()
    np.save(content, vectors, allow_pickle=False)
    writing.replace(path, content.getvalue())
    typer.echo(f"wrote {path}")


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
