"""`robustness audit`."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustness.errors import RunError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from robustness.images import Entry, Source

MODEL, IMAGES, ATTACK, EPSILON = "dogs-vs-cats", "pets", "bim", "4"

EXAMPLES = """\b
Examples:
  robustness audit                                   the bundled CNN on rendered pets and a real cat
  robustness audit --all-steps --steps 4             the article: four steps of one count each
  robustness audit -m model.keras -i photos/ -a pgd -e 1,2,4,8
  robustness audit -i dogs-vs-cats.zip --held-out --limit 300
  robustness audit -a pgd:steps=100,restarts=5 -a mi-fgsm --norm linf
  robustness audit --resume audit-run-20261123-101500
"""


def audit(
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
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            "-a",
            help=f"NAME or NAME:parameter=value,...; again for more. [default: {ATTACK}]",
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
    norm: Annotated[str, typer.Option(help="linf, l2, l1 or l0.")] = "linf",
    target: Annotated[
        str | None, typer.Option(help="Class to reach; any other class if not given.")
    ] = None,
    all_steps: Annotated[
        bool,
        typer.Option(
            "--all-steps", help="Take every step and report the last point, not the first flip."
        ),
    ] = False,
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
        bool, typer.Option("--trust-model", help="Load a file that could run code.")
    ] = False,
    evidence: Annotated[
        str, typer.Option(help="Which pictures stay on disk: flips, none, or a number of images.")
    ] = "flips",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Rows that advance together; from the memory there is if not given."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The run folder. [default: audit-run-DATE-TIME]"),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run; its own settings are used.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="The summary as JSON on standard output, and nothing else there."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Attack every correctly classified picture, verify each flip from its saved file, and report."""
    options: dict[str, Any] = {
        "model": model, "images": images, "attack": attack or [ATTACK], "epsilon": epsilon,
        "steps": steps, "step_size": step_size, "restarts": restarts, "norm": norm,
        "target": target, "all_steps": all_steps, "limit": limit, "per_class": per_class,
        "held_out": held_out, "seed": seed, "classes": classes, "scaling": scaling,
        "trust_model": trust_model, "evidence": evidence, "batch_size": batch_size,
    }  # fmt: skip
    if resume is not None:
        options = _resumed(resume)
    folder = resume or out or Path(datetime.now().strftime("audit-run-%Y%m%d-%H%M%S"))
    _run(options, folder, resume is not None, as_json, quiet)


audit.__doc__ = f"{audit.__doc__}\n\n{EXAMPLES}"


def _resumed(folder: Path) -> dict[str, Any]:
    """The options a run was started with; the command line must not bring others."""
    from robustness.store import Run

    allowed = {"--resume", "--json", "--quiet", "-q"}
    given = {word.partition("=")[0] for word in sys.argv[1:] if word.startswith("-")}
    if extra := sorted(given - allowed):
        raise SettingError(
            f"--resume uses the settings of its run, and {', '.join(extra)} came with it. Leave them "
            "out, or start a new run."
        )
    with Run.open(folder) as run:
        options = run.manifest.get("origin", {}).get("options")
    if not options:
        raise RunError(
            f"{folder} was not started from the command line; go on with it in Python: "
            "robustness.audit(..., run=folder, resume=True)."
        )
    return dict(options)


def _run(options: dict[str, Any], folder: Path, resume: bool, as_json: bool, quiet: bool) -> None:
    from robustness import units
    from robustness.cli.terminal import Display, stderr, wake_backend

    units.parse_epsilons(options["epsilon"])
    named = [_named(text, options) for text in options["attack"]]
    source, only = _pictures(options)
    console = stderr()
    if not quiet:
        console.print(f"Loading {options['model']} ...", markup=False)
    wake_backend()
    from model_zoo import load
    from robustness.attack import create, find
    from robustness.auditing import audit as run_audit

    classes = options["classes"].split(",") if options["classes"] else None
    attacks = [create(find(name), parameters) for name, parameters in named]
    model = _model(load, options, classes)
    try:
        with Display(console, quiet=quiet) as display:
            result = run_audit(
                model,
                source,
                attacks=attacks,
                epsilons=options["epsilon"],
                norm=options["norm"],
                target=options["target"],
                class_names=classes,
                scaling=options["scaling"],
                trust=options["trust_model"],
                limit=options["limit"],
                per_class=options["per_class"],
                only=only,
                seed=options["seed"],
                all_steps=options["all_steps"],
                evidence=options["evidence"],
                batch_size=options["batch_size"],
                run=folder,
                resume=resume,
                command=shlex.join(["robustness", *sys.argv[1:]]),
                origin={"options": options},
                progress=display,
            )
    except KeyboardInterrupt:
        console.print(
            f"Interrupted; nothing is lost. Go on with: robustness audit --resume {shlex.quote(str(folder))}",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    _show(result, as_json)


def _named(text: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and parameters of `pgd:steps=20,restarts=2`, those for all attacks included."""
    from robustness import plugins

    name, _, rest = text.partition(":")
    plugins.expect(plugins.ATTACKS, name)
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
    from model_zoo.dogs_vs_cats.demo import pets_from
    from robustness.images import open_source

    classes = options["classes"].split(",") if options["classes"] else None
    source = pets_from(options["images"]) or open_source(options["images"], classes)
    if not options["held_out"]:
        return source, None
    from model_zoo.dogs_vs_cats.photos import held_out

    return source, lambda entry: held_out(entry.name)


def _model(load: Any, options: dict[str, Any], classes: list[str] | None) -> Any:
    """A Classifier; or, where its scaling is left open, the file: the audit finds out by accuracy."""
    from robustness import modelfile

    path, scaling = Path(options["model"]), options["scaling"]
    whole = path.suffix in (".keras", ".h5", ".hdf5") and modelfile.scan(path).format != "weights"
    if whole and scaling is None:
        return path
    return load(
        options["model"], trust=options["trust_model"], class_names=classes, scaling=scaling
    )


def _show(result: Any, as_json: bool) -> None:
    from reports import summarise
    from robustness.cli.tables import outcome_table
    from robustness.cli.terminal import stdout
    from robustness.store import Run

    page = result.report()
    with Run.open(result.path) as run:
        summary = summarise(run)
    if as_json:
        typer.echo(json.dumps(summary.to_dict(), ensure_ascii=False))
        return
    console = stdout()
    console.print(outcome_table(summary))
    console.print(f"\n{summary.sentence}", markup=False, soft_wrap=True)
    console.print(f"report: {page}", markup=False, soft_wrap=True)
