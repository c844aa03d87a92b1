"""The command `robustness audit`: runs or resumes an audit, writes its reports, prints the result."""

from __future__ import annotations

import inspect
import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustness import plugins
from robustness.cli import options as cli_options
from robustness.cli import recorded_files
from robustness.cli import report as reporting
from robustness.cli.child_process import RAY_ENDED, continue_in_child
from robustness.cli.inputs import expect_models, open_images
from robustness.cli.options import AsJson, Quiet
from robustness.cli.result import show
from robustness.configuration.attack_text import parse_attack
from robustness.configuration.audit_config import FOR_ALL, AuditConfig, audit_options
from robustness.configuration.audit_file import expect_trust_given, read_audit_file
from robustness.configuration.recorded import checked, from_recorded, recorded
from robustness.errors import RobustnessError, RunError, RunUsageError, SettingError
from robustness.runs import recorded_paths, run_folder, run_json, seal
from robustness.runs.schema import Options, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from robustness.images import Entry
    from robustness.reports.gate.verdict import Verdict
    from robustness.runs.schema import Manifest

EXAMPLES = """\b
Examples:
  robustness audit                                   the bundled CNN on rendered pets and a real cat
  robustness audit --attack article --all-steps      the article: four steps of one count each
  robustness audit model.keras photos/               your own model, and a folder with a folder for each class
  robustness audit -m model.keras -i photos/ -a pgd -e 1,2,4,8
  robustness audit -i dogs-vs-cats.zip --held-out --limit 300
  robustness audit -a pgd:steps=100,restarts=5 -a mi-fgsm --norm linf
  robustness audit --attack autoattack               an ensemble: each attack runs on images not flipped yet
  robustness audit --config audit.toml               a file that `robustness init` wrote
  robustness audit --resume audit-run-20261123-101500
"""


@dataclass(frozen=True)
class Output:
    """What a command prints.

    Parameters
    ----------
    as_json : whether it prints the report as JSON in place of the table.
    quiet : whether it hides the progress.
    """

    as_json: bool = False
    quiet: bool = False


def audit(
    context: typer.Context,
    model_first: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The same as --model.")
    ] = None,
    images_second: Annotated[
        str | None, typer.Argument(metavar="IMAGES", help="The same as --images.")
    ] = None,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="A TOML file (`robustness init`); options given here override it.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The run folder. [default: audit-run-DATE-TIME]"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue this run with its own settings. Give --model, --images, --surrogate and --mask "
            "again if you did not start the run on this machine."
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    **arguments: object,
) -> None:
    """Attack every correctly classified image, verify each flip from its saved file, and report.

    Exit code 0: the gate in --config holds, or there is none; 1: a rule of it is broken; 2: a usage
    error; 3: the run failed; 4: the result is inconclusive; 5: no image was evaluated.
    """
    options = cli_options.typed_options(context, arguments)
    options |= cli_options.plain_arguments(options, model=model_first, images=images_second)
    if resume is not None:
        _expect_allowed(context)
        chosen = _resumed(resume, options)
    else:
        chosen = checked(options)
        if config is not None:
            chosen = with_file(config, chosen)
    folder = resume or out or Path(datetime.now().strftime("audit-run-%Y%m%d-%H%M%S"))
    if chosen.cluster:
        continue_in_child(lambda: _interrupted(folder, recorded(chosen), RAY_ENDED))
    with nullcontext() if resume is None else _reading_ahead(resume):
        verdict = perform(
            chosen, folder, Output(as_json, quiet), resume=resume is not None, file=config
        )
    raise typer.Exit(verdict.exit_code)


audit.__signature__ = cli_options.signature(audit)  # type: ignore[attr-defined]
audit.__doc__ = f"{inspect.cleandoc(audit.__doc__ or '')}\n\n{EXAMPLES}"

_WITH_RESUME = {
    *("resume", "as_json", "quiet", "trust_model", "attack", "imports", "preprocess"),
    *("model_first", "images_second", "evidence_to", "cache_bytes", "cluster"),
    *recorded_files.ROLES,
}


def _expect_allowed(context: typer.Context) -> None:
    """Raise SettingError for typed options that a resumed run takes from its record."""
    extra = [
        str(parameter.opts[0])
        for parameter in context.command.params
        if parameter.name not in _WITH_RESUME and cli_options.typed(context, str(parameter.name))
    ]
    if extra:
        raise SettingError(
            f"--resume uses the settings of its run and cannot be combined with {', '.join(sorted(extra))}. "
            "Leave these options out, or start a new run."
        )


def with_file(file: Path, typed: AuditConfig) -> AuditConfig:
    """Return the options in a file, overridden by those that were typed."""
    config = read_audit_file(file)
    expect_trust_given(config, file, typed.given())
    return config.overridden_by(typed.given())


def _resumed(folder: Path, typed: dict[str, object]) -> AuditConfig:
    """Return the recorded options of a run; `recorded_files.options_of` decides which files may load."""
    from robustness.runs.store import Run

    fields = audit_options()
    given = {fields[name].argument: value for name, value in typed.items() if name != "trust_model"}
    with Run.open(folder) as run:
        options = recorded_files.options_of(
            run.manifest.origin, folder, given, trust=bool(typed.get("trust_model"))
        )
    run_folder.expect_unused(folder)
    if not options:
        raise RunUsageError(
            f"{folder} was not started from the command line; continue it in Python: "
            "robustness.audit(..., out=folder, resume=True)."
        )
    return from_recorded(options)


def _reading_ahead(folder: Path) -> AbstractContextManager[None]:
    """A block in which another process reads a run that is resumed, while TensorFlow is imported."""
    from robustness.runs.read_ahead import reading_ahead

    return reading_ahead(folder)


def perform(
    config: AuditConfig,
    folder: Path,
    output: Output,
    *,
    resume: bool = False,
    file: Path | None = None,
    command: str = "",
    failed: list[RobustnessError | OSError] | None = None,
    expect: Callable[[Manifest, Sequence[Entry]], None] | None = None,
) -> Verdict:
    """Run an audit, write its reports, and print the result.

    Parameters
    ----------
    config : the options; model, images and attacks by name.
    folder : the run folder.
    output : what to print.
    resume : whether the run in `folder` is continued.
    file : the audit.toml that the options come from, for errors and the record.
    command : the command to record; the one of this process if empty.
    failed : receives the errors of reports that cannot be written; without it they are raised.
    expect : called with the manifest and the images before the first attack; may raise.

    Returns
    -------
    Verdict
        It holds the exit code.

    Raises
    ------
    SettingError
        An option is not usable, or a rule of the gate needs an epsilon or attack that is not run.
    typer.Exit
        The audit was interrupted (code 130).
    """
    from robustness.cli.terminal import Display, insisting, stderr, wake_backend
    from robustness.runs import stage_times
    from robustness.threat import norms

    stages = stage_times.StageTimes().start(stage_times.LOADING)

    if not resume:
        run_folder.expect_free(folder)
    norms.parse(config.norm).expect_within(config.epsilons)
    for kind in config.reports:
        plugins.writer(kind)  # a broken plug-in must fail now, not after hours
    _expect_audited(config)
    options = recorded(config)
    expect_models(config)
    source = open_images(config)
    console = stderr()
    if not output.quiet:
        console.print(f"Loading {config.model} ...", markup=False)
    wake_backend()
    from robustness.auditing.audit import audit as run_audit
    from robustness.auditing.inputs import make_attacks

    attacks = make_attacks(config, str(file or ""))
    made = {"attacks": attacks, **dict.fromkeys(FOR_ALL)}
    try:
        with insisting(), Display(console, quiet=output.quiet) as display:
            result = run_audit(
                config.model,
                config.images if config.cluster else source,
                config.overridden_by(made),
                out=folder,
                resume=resume,
                command=command or shlex.join(["robustness", *sys.argv[1:]]),
                origin=seal.sealed(
                    Origin(
                        options=run_json.recorded(Options, options, "The command line"),
                        configuration=str(file) if file else None,
                        **recorded_paths.directory(folder),
                    )
                ),
                progress=display,
                stages=stages,
                expect=expect,
            )
            stages.start(stage_times.REPORTS)
            pages, errors = reporting.written(result, config.reports, display)
            stages.stop()
    except KeyboardInterrupt:
        console.print(_interrupted(folder, options), markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    except RobustnessError as error:
        # Errors of the run folder itself say how to go on, or that nothing can.
        if (folder / run_folder.MANIFEST).is_file() and not isinstance(error, RunError):
            console.print(
                _interrupted(folder, options, "Ended early"), markup=False, soft_wrap=True
            )
        raise
    if result.mended:
        console.print(result.mended, markup=False, soft_wrap=True)
    stage_times.record_reports(result.path, stages.seconds[stage_times.REPORTS])
    verdict = show(result.path, pages, as_json=output.as_json)
    if failed is None:
        reporting.fail(errors)
    else:
        failed += errors
    return verdict


def _interrupted(folder: Path, options: dict[str, Any], what: str = "Interrupted") -> str:
    """Return the message after an interrupted audit: how to continue."""
    # The manifest is that of this run: the folder was free, or is that of --resume.
    if (folder / run_folder.MANIFEST).is_file():
        return (
            f"{what}; finished results are kept. Continue with: "
            f"{recorded_files.again(folder, options)}"
        )
    return f"{what} before the run was created. To start it, repeat the same command."


def _expect_audited(config: AuditConfig) -> None:
    """Raise SettingError if a rule of the gate needs an epsilon or an attack that is not run."""
    names = [parse_attack(str(text))[0] for text in config.attacks]
    for rule in config.gate["rules"] if config.gate else ():
        if rule["epsilon"] is not None and rule["epsilon"] not in config.epsilons:
            raise SettingError(
                f"The rule {rule['name']!r} needs epsilon {rule['epsilon']:g}; the epsilons of this audit "
                f"are {', '.join(f'{e:.12g}' for e in config.epsilons)}. Add it to them, or change the rule."
            )
        # The attacks of an ensemble are known only once it is adapted to the model.
        listed = not set(names) & set(plugins.names(plugins.ENSEMBLES))
        about_attack = rule["scope"] == "attack" and rule["of"] and listed
        if about_attack and rule["of"].partition("(")[0] not in names:
            raise SettingError(
                f"The rule {rule['name']!r} needs the attack {rule['of']!r}; the attacks of this audit are "
                f"{', '.join(names)}. Add it to them, or change the rule."
            )
