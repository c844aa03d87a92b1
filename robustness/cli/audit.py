"""`robustness audit`."""

from __future__ import annotations

import inspect
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustness import plugins
from robustness.cli import named
from robustness.configuration import defaults
from robustness.errors import RunUsageError, SettingError
from robustness.runs import recorded_paths, run_folder
from robustness.runs import seal as origins
from robustness.runs.run_json import recorded
from robustness.runs.schema import Options, Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from robustness.images import Entry, Source
    from robustness.reports.gate.verdict import Verdict

MODEL, IMAGES = "dogs-vs-cats", "pets"
ATTACK, EPSILON = defaults.ATTACK, str(defaults.EPSILON)
REPORT = "html"

EXAMPLES = """\b
Examples:
  robustness audit                                   the bundled CNN on rendered pets and a real cat
  robustness audit --attack article --all-steps      the article: four steps of one count each
  robustness audit -m model.keras -i photos/ -a pgd -e 1,2,4,8
  robustness audit -i dogs-vs-cats.zip --held-out --limit 300
  robustness audit -a pgd:steps=100,restarts=5 -a mi-fgsm --norm linf
  robustness audit --attack autoattack               an ensemble: each attack sees what still stands
  robustness audit --config audit.toml               what `robustness init` wrote
  robustness audit --resume audit-run-20261123-101500
"""


def audit(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A name (`robustness models`), a .keras or .h5 file, or kaggle:OWNER/NOTEBOOK.",
        ),
    ] = MODEL,
    images: Annotated[
        str,
        typer.Option(
            "--images",
            "-i",
            help="A folder, zip, CSV, .npz or picture; or pets, pets:N for rendered ones.",
        ),
    ] = IMAGES,
    label_column: Annotated[
        str | None,
        typer.Option(
            help="Column of a CSV, or array of a .npz, with the labels, or none; found by name if not given."
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            "-a",
            help=f"NAME or NAME:parameter=value,..., or an ensemble; again for more. [default: {ATTACK}]",
        ),
    ] = None,
    epsilon: Annotated[
        str, typer.Option("--epsilon", "-e", help="Budgets in counts: 4, 4/255, or 1,2,4,8.")
    ] = EPSILON,
    steps: Annotated[int | None, typer.Option(help="Steps of every attack given.")] = None,
    step_size: Annotated[
        float | None, typer.Option(help="Step size of every attack given, as epsilon is counted.")
    ] = None,
    restarts: Annotated[int | None, typer.Option(help="Restarts of every attack given.")] = None,
    norm: Annotated[
        str, typer.Option(help="linf, l2, l1, l0, or free (spatial, corruptions).")
    ] = "linf",
    target: Annotated[
        str | None, typer.Option(help="Class to reach; any other class if not given.")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="A picture, bright where pixels may change; all may if not given."),
    ] = None,
    surrogate: Annotated[
        str | None,
        typer.Option(help="A model as in --model that the attacks look at; --model only judges."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="float32, or bfloat16: what attacks look at the model with. Verdicts are float32's."
        ),
    ] = "float32",
    all_steps: Annotated[
        bool,
        typer.Option(
            "--all-steps", help="Take every step and report the last point, not the first flip."
        ),
    ] = False,
    cascade: Annotated[
        bool | None,
        typer.Option(
            "--cascade/--no-cascade",
            help="Each attack sees only what still stands; by itself so with an ensemble.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many pictures, a random sample in balance.")
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(help="At most so many pictures of each class.")
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Only photos that the bundled CNN never saw.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the sample and of the attacks.")] = 0,
    classes: Annotated[
        str | None, typer.Option(help="Class names in the order of the model's outputs: cat,dog.")
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(
            help="What the model's inputs are: 0..255, 0..1, -1..1, caffe or torch; found out if not given."
        ),
    ] = None,
    trust_model: Annotated[
        bool,
        typer.Option("--trust-model", help="Load a file that could run code or take all memory."),
    ] = False,
    evidence: Annotated[
        str,
        typer.Option(help="Which pictures stay on disk: all, flips, none, or a number of images."),
    ] = "flips",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Rows that advance together; from the memory there is if not given."),
    ] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(
            help="What the model is said to reach, 0..1; much less is no basis.", min=0, max=1
        ),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Ask the dear diagnostics too: attacks run again.")
    ] = False,
    report: Annotated[
        list[str] | None,
        typer.Option(help="A kind of report to write; again for more. [default: html]"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="A TOML file (`robustness init`); this line wins over it."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The run folder. [default: audit-run-DATE-TIME]"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run; its own settings are used. Name --model, --images, --surrogate "
            "and --mask anew if you did not start it here."
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="The report as JSON on standard output, and nothing else there."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Attack every correctly classified picture, verify each flip from its saved file, and report.

    Leaves with 0 if the gate of --config holds or there is none, 1 if a rule of it is broken, 2 for
    a usage error, 3 if the run broke down, 4 if it is inconclusive, 5 if nothing was evaluated.
    """
    options: dict[str, Any] = {
        "model": model, "images": images, "label_column": label_column,
        "attack": attack or [ATTACK], "epsilon": epsilon,
        "steps": steps, "step_size": step_size, "restarts": restarts, "norm": norm,
        "target": target, "mask": mask, "surrogate": surrogate, "precision": precision,
        "all_steps": all_steps, "cascade": cascade, "limit": limit, "per_class": per_class,
        "held_out": held_out, "seed": seed, "classes": classes, "scaling": scaling,
        "trust_model": trust_model, "evidence": evidence, "batch_size": batch_size,
        "accuracy": accuracy, "thorough": thorough, "report": report or [REPORT], "gate": None,
    }  # fmt: skip
    if resume is not None:
        _expect_allowed(context)
        chosen = {
            role: options[role] if _typed(context, role) else None
            for role in (*named.ROLES, "attack")
        }
        options = _resumed(resume, chosen, trust_model)
    elif config is not None:
        from robustness.cli import configuration

        given = {name: options[name] for name in options if _typed(context, name)}
        found = configuration.load(config)
        found.expect_trust_typed(trust_model)
        options = found.merged(options, given)
    folder = resume or out or Path(datetime.now().strftime("audit-run-%Y%m%d-%H%M%S"))
    verdict = perform(
        options, folder, resume=resume is not None, as_json=as_json, quiet=quiet, where=config
    )
    raise typer.Exit(verdict.exit_code)


audit.__doc__ = f"{inspect.cleandoc(audit.__doc__ or '')}\n\n{EXAMPLES}"


def _typed(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


_WITH_RESUME = {"resume", "as_json", "quiet", "trust_model", "attack", *named.ROLES}


def _expect_allowed(context: typer.Context) -> None:
    """SettingError for options that a resumed run has of its own."""
    extra = [
        str(parameter.opts[0])
        for parameter in context.command.params
        if parameter.name not in _WITH_RESUME and _typed(context, str(parameter.name))
    ]
    if extra:
        raise SettingError(
            f"--resume uses the settings of its run, and {', '.join(sorted(extra))} came with it. Leave "
            "them out, or start a new run."
        )


def _resumed(folder: Path, given: dict[str, Any], trust: bool) -> dict[str, Any]:
    """The options a run was started with, what is loaded as `named.options_of` has it."""
    from robustness.runs.store import Run

    with Run.open(folder) as run:
        options = named.options_of(run.manifest.origin, folder, given, trust=trust)
    run_folder.expect_unused(folder)
    if not options:
        raise RunUsageError(
            f"{folder} was not started from the command line; go on with it in Python: "
            "robustness.audit(..., run=folder, resume=True)."
        )
    return options


def perform(
    options: dict[str, Any],
    folder: Path,
    *,
    resume: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    where: Path | None = None,
    command: str = "",
) -> Verdict:
    """Run an audit with the options of the command line, write its reports, and print what came."""
    from robustness.cli.terminal import Display, insisting, stderr, wake_backend
    from robustness.configuration import epsilons

    if not resume:
        run_folder.expect_free(folder)
    ladder = epsilons.parse_epsilons(options["epsilon"])
    epsilons.expect_within(ladder, options["norm"])
    asked = [_named(text, options) for text in options["attack"]]
    for kind in options.get("report") or [REPORT]:
        plugins.expect(plugins.REPORTS, kind)
    _expect_audited(options.get("gate"), ladder, [name for name, _ in asked])
    source, only = _pictures(options)
    console = stderr()
    if not quiet:
        console.print(f"Loading {options['model']} ...", markup=False)
    wake_backend()
    from robustness.auditing.audit import audit as run_audit
    from robustness.contract.ensembles import create
    from robustness.model_zoo import load

    classes = options["classes"].split(",") if options["classes"] else None
    attacks = [_made(create, number, one, where) for number, one in enumerate(asked)]
    model = _model(load, options, classes)
    other = options | {"model": options.get("surrogate"), "scaling": None}
    eyes = _model(load, other, classes) if options.get("surrogate") else None
    try:
        with insisting(), Display(console, quiet=quiet) as display:
            result = run_audit(
                model,
                source,
                attacks=attacks,
                epsilons=options["epsilon"],
                norm=options["norm"],
                target=options["target"],
                mask=options.get("mask"),
                surrogate=eyes,
                precision=options.get("precision") or "float32",
                class_names=classes,
                scaling=options["scaling"],
                trust=options["trust_model"],
                limit=options["limit"],
                per_class=options["per_class"],
                only=only,
                seed=options["seed"],
                all_steps=options["all_steps"],
                cascade=options.get("cascade"),
                evidence=options["evidence"],
                batch_size=options["batch_size"],
                run=folder,
                resume=resume,
                command=command or shlex.join(["robustness", *sys.argv[1:]]),
                origin=origins.sealed(
                    Origin(
                        options=recorded(Options, options, "The command line"),
                        configuration=str(where) if where else None,
                        **recorded_paths.directory(folder),
                    )
                ),
                thorough=bool(options.get("thorough")),
                declared_accuracy=options.get("accuracy"),
                gate=options.get("gate"),
                progress=display,
            )
    except KeyboardInterrupt:
        console.print(_interrupted(folder, options), markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if result.mended:
        console.print(result.mended, markup=False, soft_wrap=True)
    return _show(result, options.get("report") or [REPORT], as_json)


def _interrupted(folder: Path, options: dict[str, Any]) -> str:
    """What to say of an audit that was stopped: how to go on, if it had begun."""
    # Another run cannot be there: the folder was free, or is that of --resume.
    if (folder / run_folder.MANIFEST).is_file():
        return f"Interrupted; nothing is lost. Go on with: {named.again(folder, options)}"
    return "Interrupted before anything was done; to begin again, give the same command."


def _expect_audited(
    gate: dict[str, Any] | None, ladder: tuple[float, ...], names: list[str]
) -> None:
    """SettingError if a rule speaks of an epsilon or an attack that is not to be run."""
    for rule in gate["rules"] if gate else ():
        if rule["epsilon"] is not None and rule["epsilon"] not in ladder:
            raise SettingError(
                f"The rule {rule['name']!r} is about epsilon {rule['epsilon']:g}, which is not among "
                f"those audited ({', '.join(f'{e:g}' for e in ladder)}). Add it to epsilons."
            )
        # What an ensemble brings is known only once it is fitted to the model.
        listed = not set(names) & set(plugins.names(plugins.ENSEMBLES))
        told = rule["scope"] == "attack" and rule["of"] and listed
        if told and rule["of"].partition("(")[0] not in names:
            raise SettingError(
                f"The rule {rule['name']!r} is about the attack {rule['of']!r}; those to be run are "
                f"{', '.join(names)}."
            )


def _made(create: Any, number: int, one: tuple[str, dict[str, Any]], where: Path | None) -> Any:
    """An attack or ensemble; an error says where it stands in the file, if it came from one."""
    name, parameters = one
    try:
        return create(name, parameters)
    except SettingError as error:
        if where is None:
            raise
        why = str(error).removeprefix(f"{name}: ")
        raise SettingError(f"{where}: attacks[{number}] ({name}): {why}") from None


def _named(text: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and parameters of `pgd:steps=20,restarts=2`, those for all attacks included."""
    name, _, rest = text.partition(":")
    plugins.expect(plugins.ATTACKS, name, plugins.ENSEMBLES)
    parameters: dict[str, Any] = {
        key: options[key] for key in ("steps", "step_size", "restarts") if options[key] is not None
    }
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise SettingError(f"{part!r} in {text!r} is not a parameter; expected name=value.")
        parameters[key.strip().replace("-", "_")] = value
    return name, parameters


def _pictures(options: dict[str, Any]) -> tuple[Source, Callable[[Entry], bool] | None]:
    """The source the user means, and which of its pictures."""
    from robustness.images import open_source
    from robustness.model_zoo.dogs_vs_cats.demo import pets_from

    classes = options["classes"].split(",") if options["classes"] else None
    source = pets_from(options["images"]) or open_source(
        options["images"], classes, options.get("label_column")
    )
    if not options["held_out"]:
        return source, None
    from robustness.model_zoo.dogs_vs_cats.photos import held_out

    return source, lambda entry: held_out(entry.name)


def _model(load: Any, options: dict[str, Any], classes: list[str] | None) -> Any:
    """A Classifier; or, where its scaling is left open, the file: the audit finds out by accuracy."""
    from robustness.models import loading

    path, scaling = Path(options["model"]), options["scaling"]
    whole = path.suffix in (".keras", ".h5", ".hdf5") and loading.scan(path).format != "weights"
    if whole and scaling is None:
        return path
    return load(
        options["model"], trust=options["trust_model"], class_names=classes, scaling=scaling
    )


def _show(result: Any, kinds: list[str], as_json: bool) -> Verdict:
    """Write the reports, print the outcome; the verdict that the process leaves with."""
    from robustness.cli.tables import outcome_table
    from robustness.cli.terminal import stdout
    from robustness.reports import summarise
    from robustness.reports.formats.report_json import dumps
    from robustness.reports.gate.verdict import verdict_of
    from robustness.reports.page.headline import standing
    from robustness.reports.summary.unjudged import reasons
    from robustness.runs.store import Run

    pages = [result.report(kind=kind) for kind in kinds]
    with Run.open(result.path) as run:
        summary = summarise(run)
    verdict = verdict_of(summary)
    if as_json:
        typer.echo(dumps(summary, verdict), nl=False)
        return verdict
    console = stdout()
    console.print(outcome_table(summary))
    console.print(f"\n{summary.sentence}", markup=False, soft_wrap=True)
    console.print(standing(summary, verdict), markup=False, soft_wrap=True)
    if why := reasons(summary.skipped, summary.images.selected):
        console.print(f"not read: {why}.", markup=False, soft_wrap=True)
    for note in summary.config.replaced:
        console.print(f"replaced: {note}.", markup=False, soft_wrap=True)
    for note in summary.manifest.notes:
        console.print(f"note: {note}.", markup=False, soft_wrap=True)
    for one in summary.manifest.diagnostics:
        if one.status in ("warn", "fail"):
            said = f"{one.status} {one.id} {one.title}? {one.sentence}"
            console.print(said, markup=False, soft_wrap=True)
    console.print(f"verdict: {verdict.label}. {verdict.sentence}", markup=False, soft_wrap=True)
    for page in pages:
        console.print(f"report: {page}", markup=False, soft_wrap=True)
    return verdict
