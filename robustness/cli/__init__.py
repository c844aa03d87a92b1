"""The command line interface `robustness`: one application with a command per module.

Each command imports what it needs when it runs, so that `--help` does not import TensorFlow.
"""

from __future__ import annotations

import sys
import traceback
from typing import NoReturn

import typer

from robustness.cli import (
    arguments,
    article,
    attacks,
    audit,
    case,
    compare,
    fetch,
    fit,
    init,
    merge,
    models,
    plan,
    report,
    rerun,
    solve,
    streams,
    verify,
)
from robustness.cli.terminal import stderr
from robustness.errors import BROKEN, INTERRUPTED, RobustnessError

app = typer.Typer(
    name="robustness",
    help="Audit image classifiers: which images flip within a budget of changes, with what certainty, "
    "and what each flip looks like.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("audit")(audit.audit)
app.command("init")(init.init)
app.command("attacks")(attacks.attacks)
app.command("check-attack")(attacks.check)
app.command("models")(models.models)
app.command("plan")(plan.plan)
app.command("report")(report.report)
app.command("case")(case.case)
app.command("verify")(verify.verify)
app.command("merge")(merge.merge)
app.command("rerun")(rerun.rerun)
app.command("compare")(compare.compare)
app.command("fetch")(fetch.fetch)
app.command("fit")(fit.fit)
app.command("article")(article.article)
app.add_typer(solve.app, name="solve")
arguments.check_arguments((app, solve.app))


def _version(shown: bool) -> None:
    if shown:
        from importlib.metadata import version

        typer.echo(f"robustness-toolkit {version('robustness-toolkit')}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    """Audit image classifiers."""


def main() -> None:
    """Run the command line. An error in the user's input is printed as one sentence, without traceback."""
    streams.secure()
    try:
        app()
    except RobustnessError as error:
        _print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        stderr().print("Interrupted.", markup=False)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if streams.unread(end):
            streams.discard_stdout()
            sys.exit(BROKEN)
        if isinstance(end.__context__, typer.Abort):  # an EOFError
            _crash(end.__context__.__cause__ or end)
        raise
    except BrokenPipeError:
        streams.discard_stdout()
        sys.exit(BROKEN)
    except OSError as error:
        # The disk or a folder, when reports, pages, fitted changes or temporary files are written.
        from robustness.files.disk_errors import sentence

        _print_error(sentence(error))
        sys.exit(BROKEN)
    except Exception as error:
        _crash(error)


def _print_error(error: object) -> None:
    stderr().print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)


def _crash(error: BaseException) -> NoReturn:
    """Print a traceback. Python's exit code after one is 1, which means here that the gate is broken."""
    traceback.print_exception(error)
    sys.exit(BROKEN)
