"""The command `robustness rerun`: repeats an audit with its own settings and compares the runs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustness import plugins
from robustness.cli.options import (
    HtmlPage,
    Imports,
    Preprocess,
    Quiet,
    RunArchitecture,
    RunAttacks,
    RunImages,
    RunMask,
    RunModel,
    RunSurrogate,
    TrustModel,
)
from robustness.configuration import choices, scaling_text
from robustness.configuration.class_names import recorded_names
from robustness.configuration.recorded import from_recorded
from robustness.errors import RobustnessError, RunError, RunUsageError, SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from robustness.runs.schema import Manifest


def rerun(
    run: Annotated[Path, typer.Argument(help="A run folder, or its report.json.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The new run folder. [default: rerun-DATE-TIME]"),
    ] = None,
    html: HtmlPage = None,
    model: RunModel = None,
    architecture: RunArchitecture = None,
    images: RunImages = None,
    surrogate: RunSurrogate = None,
    mask: RunMask = None,
    attack: RunAttacks = None,
    imports: Imports = None,
    preprocess: Preprocess = None,
    trust_model: TrustModel = False,
    quiet: Quiet = False,
) -> None:
    """Repeat an audit with its own settings in a new folder, and compare the two runs.

    Files that a run names are loaded only if you started the run on this machine; for a run that you
    received, name them. Exit code: 1 if the outcome of an image differs, else that of the audit.

    \b
    Examples:
      robustness rerun audit-run-20261123-101500
      robustness rerun report.json --out again
      robustness rerun received --model model.keras --images photos/
    """
    from robustness.cli import audit, compare, recorded_files
    from robustness.cli import report as reporting
    from robustness.files import disk_errors

    if html is not None:
        disk_errors.expect_place(html)
    given: dict[str, Any] = {"model": model, "images": images, "surrogate": surrogate, "mask": mask}
    given |= {"attack": attack, "architecture": architecture, "imports": imports}
    given |= {"preprocess": preprocess}
    manifest = _manifest(run)
    options = recorded_files.options_of(manifest.origin, run, given, trust=trust_model)
    if not options:
        raise SettingError(
            f"{run} was not started from the command line, so it does not record how to load its "
            "model and images. Repeat it in Python: robustness.audit(...)."
        )
    folder = out or Path(datetime.now().strftime("rerun-%Y%m%d-%H%M%S"))
    command = f"robustness rerun {run.name}"
    if model is None:
        options = options | _decided(manifest, options)
    config = from_recorded(options)
    failed: list[RobustnessError | OSError] = []
    from robustness.reports.comparison.compare import compare as paired
    from robustness.reports.comparison.sides import expect_comparable, read_side

    first = read_side(run)
    verdict = audit.perform(
        config,
        folder,
        audit.Output(quiet=quiet),
        command=command,
        failed=failed,
        expect=lambda manifest, entries: expect_comparable(first, manifest, entries),
    )

    # A report that cannot be written does not keep the comparison from being shown.
    try:
        comparison = paired(run, folder)
        compare.show(comparison)
        typer.echo(f"run: {folder}")
        if html is not None:
            from robustness.reports.comparison.page import write_comparison

            write_comparison(comparison, html)
    except (RobustnessError, OSError) as error:
        failed.append(error)
    reporting.fail(failed)
    raise typer.Exit(1 if comparison.differs else verdict.exit_code)


def _decided(manifest: Manifest, options: Mapping[str, Any]) -> dict[str, Any]:
    """The class names and the scaling that the run found for its model file, as options that give them."""
    decided: dict[str, Any] = {}
    if options.get("model") in plugins.names(plugins.MODELS):
        return decided  # a model of the zoo brings its own
    found = manifest.model.scaling
    from robustness.pipeline.named import parse_pipeline

    pipeline = options.get("pipeline")
    if options.get("preprocess") or (pipeline and parse_pipeline(pipeline).scaling):
        found = None  # the preprocessing, or the pipeline, brings its own
    if not options.get("scaling") and found and found.multiply and found.offset:
        named = str(found.name) in choices.SCALINGS
        numbers = (found.multiply, found.offset, str(found.order))
        decided["scaling"] = found.name if named else scaling_text.text_of(*numbers)
    if not options.get("classes") and manifest.model.class_names_from and manifest.class_names:
        decided["classes"] = recorded_names(manifest.class_names)
    return decided


def _manifest(path: Path) -> Manifest:
    """Return the manifest of a run folder, or the one in a report."""
    if path.is_dir() or not path.exists():
        from robustness.runs.store import Run

        with Run.open(path) as opened:
            return opened.manifest
    from robustness.files.reading import MOST_JSON, read_named
    from robustness.runs.run_json import summary_of

    try:
        return summary_of(read_named(path, MOST_JSON), str(path)).manifest
    except RunError as error:
        raise RunUsageError(f"{path} cannot be repeated: {error}") from None
