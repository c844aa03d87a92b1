"""The commands `robustness attacks` (lists attacks and parameters) and `check-attack` (tests one)."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from robustness.errors import SettingError

if TYPE_CHECKING:
    from rich.table import Table

    from robustness.contract.attack import Attack
    from robustness.contract.ensembles import Ensemble
    from robustness.plugins import Broken


def attacks(
    name: Annotated[str | None, typer.Argument(help="Show this attack's parameters.")] = None,
) -> None:
    """List the installed attacks and ensembles, plug-ins included, or show one's parameters.

    Passes are the cost of an image that never flips, on a model of ten classes: forward passes plus
    gradients.

    \b
    Examples:
      robustness attacks
      robustness attacks pgd
      robustness attacks autoattack
    """
    from robustness import plugins

    if name is not None:
        plugins.expect(plugins.ATTACKS, name, plugins.ENSEMBLES)
    from robustness.cli.tables import print_table
    from robustness.cli.terminal import stdout, wake_backend

    wake_backend()
    from robustness.contract import ensembles
    from robustness.contract.registry import find

    console = stdout()
    if name is None:
        attack_rows, broken = _listed()
        ensemble_rows, others = _ensembles()
        print_table(console, attack_rows)
        console.print()
        print_table(console, ensemble_rows)
        for plugin in (*broken, *others):
            console.print(f"\nbroken: {plugin.name}: {plugin.reason}", markup=False, soft_wrap=True)
    elif name in plugins.names(plugins.ENSEMBLES):
        ensemble = ensembles.find(name)
        console.print(f"{ensemble.meaning} ({ensemble.source})\n", markup=False)
        print_table(console, _members(ensemble))
    else:
        cls = find(name)
        console.print(_described(cls.__doc__ or ""), markup=False)
        line = f"{cls.knowledge}; {', '.join(cls.norms)}; passes of an image: {_cost(cls)}"
        console.print(f"\n{line}\n", markup=False)
        print_table(console, _parameters(cls))


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _described(docstring: str) -> str:
    """Return a numpydoc docstring as text, without its parameters, which `_parameters` lists."""
    parts = re.split(r"^(\w+)\n-+$", inspect.cleandoc(docstring), flags=re.MULTILINE)
    sections = dict(zip(["", *parts[1::2]], parts[::2], strict=True))
    texts = [sections.pop(""), sections.pop("Notes", "")]
    paragraphs = [" ".join(p.split()) for text in texts for p in text.strip().split("\n\n")]
    return "\n\n".join(p for p in (*paragraphs, sections.get("References", "").strip()) if p)


def _listed() -> tuple[Table, list[Broken]]:
    """Return a table with a row per attack, and the plug-ins that cannot be used."""
    from robustness import plugins
    from robustness.contract.registry import find

    classes, broken = plugins.survey(plugins.ATTACKS, find)
    rows = [
        (c.name, c.knowledge, ", ".join(c.norms), _cost(c), str(getattr(c, "paper", "")))
        for c in classes
    ]
    return _table(("attack", "knowledge", "norms", "passes", "source"), rows), broken


def _cost(cls: type[Attack]) -> str:
    """Return the passes of an image that never flips: forward, and backward if there are any."""
    from robustness.contract.cost import passes

    try:
        forward, backward = passes(cls(), 10)
    except Exception:
        # A plug-in that cannot take a step must not hide the others; check-attack reports why.
        return "?"
    return f"{forward:,} + {backward:,}" if backward else f"{forward:,}"


def _ensembles() -> tuple[Table, list[Broken]]:
    """Return a table with a row per ensemble, and the plug-ins that cannot be used."""
    from robustness import plugins
    from robustness.contract.ensembles import find

    ensembles, broken = plugins.survey(plugins.ENSEMBLES, find)
    rows = [(e.name, ", ".join(n for n, _ in e.members), e.meaning, e.source) for e in ensembles]
    return _table(("ensemble", "attacks", "purpose", "source"), rows), broken


def _members(ensemble: Ensemble) -> Table:
    """Return a table of an ensemble's attacks: those for any number of classes, and those for two."""
    from robustness.contract.registry import make

    lists = [("any", ensemble.members), ("two", ensemble.two)]
    rows = [
        (which, make(name, **attack_parameters).label)
        for which, members in lists
        for name, attack_parameters in members
    ]
    return _table(("classes", "attack"), rows)


def _parameters(cls: type[Attack]) -> Table:
    """Return a table with a row per parameter."""
    from robustness.configuration import attack_parameters

    rows = []
    for key, (field, rule) in attack_parameters.settings(cls).items():
        default = rule.automatic if field.default is None else str(field.default)
        span = "true | false" if isinstance(field.default, bool) else rule.span()
        rows.append((key, rule.meaning, default, span))
    return _table(("parameter", "meaning", "default", "range"), rows)


def check(
    attack: Annotated[
        str, typer.Argument(help="The name of an installed attack, or package.module:Class.")
    ],
) -> None:
    """Test an attack against its contract, clause by clause.

    \b
    Examples:
      robustness check-attack pgd
      robustness check-attack my_package.my_attack:MyAttack
    """
    from robustness.cli.terminal import stdout, wake_backend

    cls = _attack_class(attack, wake_backend)
    from robustness.testing import check_attack

    console = stdout()
    for passed in check_attack(cls):
        console.print(f"ok  {passed.name}", markup=False)


def _attack_class(text: str, wake: Callable[[], None]) -> type[Attack]:
    from robustness import plugins

    if ":" not in text:
        plugins.expect(plugins.ATTACKS, text)
        wake()
        return _expect_attack(text, plugins.load(plugins.ATTACKS, text))
    module, _, name = text.partition(":")
    wake()
    # An installed script does not import from the current folder by itself.
    sys.path.insert(0, str(Path.cwd()))
    try:
        value = getattr(import_module(module), name)
    # A module may raise anything when it is imported, SystemExit included.
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise SettingError(
            f"{text!r} cannot be imported ({type(error).__name__}: {shorten(reason, 300)}); expected "
            "package.module:Class of an installed package or of the current folder."
        ) from None
    return _expect_attack(text, value)


def _expect_attack(text: str, value: object) -> type[Attack]:
    """Return the value if it is a subclass of Attack, else raise SettingError."""
    from robustness.contract.attack import Attack

    advice = "expected a class that derives from robustness.Attack (docs/adding-an-attack.md)."
    if not isinstance(value, type):
        raise SettingError(f"{text!r} is a {type(value).__name__}, not a class; {advice}")
    if not issubclass(value, Attack) or value is Attack:
        raise SettingError(f"{text!r} is the class {value.__name__}, not an attack; {advice}")
    return value
