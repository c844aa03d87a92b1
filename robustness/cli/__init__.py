"""The command line interface `robustness`: one application with a command per module.

Each command imports what it needs when it runs, so that `--help` does not import TensorFlow.
"""

from __future__ import annotations

import os
import sys
import traceback

import typer

from robustness.cli import (
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
    path_arguments,
    plan,
    report,
    rerun,
    solve,
    verify,
)
from robustness.cli.terminal import stderr
from robustness.errors import BROKEN, RobustnessError

INTERRUPTED = 130

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
path_arguments.expect_paths((app, solve.app))


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
    try:
        app()
    except RobustnessError as error:
        stderr().print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        stderr().print("Interrupted.", markup=False)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN)
    except OSError as error:
        # The disk or a folder, when reports, pages, fitted changes or temporary files are written.
        from robustness.files.disk_errors import sentence

        stderr().print(f"error: {sentence(error)}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(BROKEN)
    except Exception:
        # Python's exit code for a traceback is 1, which means here that a rule of the gate is broken.
        traceback.print_exc()
        sys.exit(BROKEN)
