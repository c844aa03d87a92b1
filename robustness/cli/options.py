"""Makes the options of commands: from the fields of `AuditConfig`, and those that commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from robustness import plugins
from robustness.configuration.audit_config import AuditConfig, audit_options
from robustness.configuration.option import OptionField
from robustness.configuration.recorded import recorded
from robustness.errors import SettingError

_FIELDS = audit_options()


@cache
def _defaults() -> dict[str, Any]:
    """Return the defaults, as the command line writes them."""
    return recorded(AuditConfig())


def _of_the_run(name: str, noun: str, kind: Any = str) -> Any:
    """Return an option that replaces a recorded one, with the spelling of `robustness audit`."""
    field = _FIELDS[name]
    more = "; repeat it for several" if field.option.repeated else ""
    text = f"The {noun}, if not the {'ones' if more else 'one'} that the run names{more}."
    return Annotated[kind | None, typer.Option(*_spellings(field), help=text)]


def _spellings(field: OptionField) -> list[str]:
    """Return `--model` and `-m`; `--cascade/--no-cascade` where None is a third value."""
    three = field.kind is bool and field.optional
    long = f"{field.flag}/--no-{field.flag.removeprefix('--')}" if three else field.flag
    return [long, *([f"-{field.option.short}"] if field.option.short else [])]


TrustModel = Annotated[
    bool,
    typer.Option(
        "--trust-model", help="Load a model file that could run code or exhaust the memory."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else, to stdout.")
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        help="A Python file or module with own layers of the model; needs --trust-model. Those that the run "
        "names if you started it on this machine.",
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help="The preprocessing function of the run, as module:function or file.py:function; it is run. "
        "Needed for runs that were made with one.",
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="A run folder.")]
HtmlPage = Annotated[
    Path | None, typer.Option("--html", help="Write the comparison as a page to this file.")
]


_NAMED = {
    "model": (plugins.MODELS,),
    "surrogate": (plugins.MODELS,),
    "attacks": (plugins.ATTACKS, plugins.ENSEMBLES),
    "reports": (plugins.REPORTS,),
}
"""Options whose values are names of installed plug-ins, with the groups of these."""


def _completion(field: OptionField) -> Callable[[str], list[str]] | None:
    """Return the function that completes a value in a shell; None if no names are known."""
    groups = _NAMED.get(field.name, ())
    if not groups and not field.option.choices:
        return None

    def complete(incomplete: str) -> list[str]:
        names = {*field.option.choices, *(name for g in groups for name in plugins.names(g))}
        return sorted(name for name in names if name.startswith(incomplete))

    return complete


def parameters() -> list[inspect.Parameter]:
    """Return the options of an audit as parameters of a typer command, in the order of the fields."""
    return [parameter(field) for field in _FIELDS.values()]


def signature(command: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a command, with an option for each field of `AuditConfig` as `**arguments`."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    plain = [p for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p for p in own if p.kind is p.KEYWORD_ONLY]
    return inspect.Signature([*plain, *parameters(), *named])


def parameter(field: OptionField) -> inspect.Parameter:
    """Return a field of `AuditConfig` as the parameter of a typer command."""
    text, default = field.option.help, _defaults()[field.argument]
    kind: Any = field.kind
    if field.option.repeated:
        text = f"{text} [default: {','.join(default)}]" if default else text
        kind, default = list[str] | None, None
    elif field.optional:
        kind = kind | None
    return inspect.Parameter(
        field.argument,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[
            kind,
            typer.Option(*_spellings(field), help=text, autocompletion=_completion(field)),
        ],
    )


def typed(context: typer.Context, name: str) -> bool:
    """Whether an option was given on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def typed_options(
    context: typer.Context, arguments: dict[str, object], names: Iterable[str] = tuple(_FIELDS)
) -> dict[str, object]:
    """Return those options `names` of an audit that were typed, by the names of `AuditConfig`."""
    return {
        name: arguments[_FIELDS[name].argument]
        for name in names
        if typed(context, _FIELDS[name].argument)
    }


def plain_arguments(options: dict[str, object], **given: str | None) -> dict[str, object]:
    """Return the arguments that were typed without an option, by the option that they stand for.

    Raises
    ------
    SettingError
        An option was typed as well, or the model is a folder of images.
    """
    plain: dict[str, object] = {name: text for name, text in given.items() if text is not None}
    model = Path(given.get("model") or "")
    if plain and model.is_dir() and not (model / "saved_model.pb").exists():
        raise SettingError(
            f"{str(model)!r} is a folder, and the first argument is the model. Expected MODEL, or MODEL "
            f"IMAGES; for the images alone write --images {model}."
        )
    for name, text in plain.items():
        if name in options:
            raise SettingError(
                f"{name.upper()} is given twice: {text!r}, and {_FIELDS[name].flag} {options[name]!r}; "
                "expected one of them."
            )
    return plain


# The annotations are made at run time, so type checkers get the plain types.
if TYPE_CHECKING:
    RunModel: TypeAlias = str | None
    RunArchitecture: TypeAlias = str | None
    RunImages: TypeAlias = str | None
    RunSurrogate: TypeAlias = str | None
    RunMask: TypeAlias = str | None
    RunAttacks: TypeAlias = list[str] | None
    Model: TypeAlias = str
    LabelColumn: TypeAlias = str | None
    Target: TypeAlias = str | None
    Limit: TypeAlias = int | None
else:
    RunModel = _of_the_run("model", "model")
    RunArchitecture = _of_the_run("architecture", "architecture")
    RunImages = _of_the_run("images", "images")
    RunSurrogate = _of_the_run("surrogate", "surrogate")
    RunMask = _of_the_run("mask", "mask")
    RunAttacks = _of_the_run("attacks", "attacks", list[str])
    Model, LabelColumn, Target, Limit = (
        parameter(_FIELDS[name]).annotation for name in ("model", "label_column", "target", "limit")
    )
