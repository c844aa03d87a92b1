"""`robustness attacks` and `robustness check-attack`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness.errors import SettingError

if TYPE_CHECKING:
    from robustness.attack import Attack


def attacks(
    name: Annotated[str | None, typer.Argument(help="Show this attack's parameters.")] = None,
) -> None:
    """List the installed attacks, plug-ins included, or show one's parameters.

    \b
    Examples:
      robustness attacks
      robustness attacks pgd
    """
    from robustness import plugins

    if name is not None:
        plugins.expect(plugins.ATTACKS, name)
    from rich.table import Table
    from rich.text import Text

    from robustness.cli.terminal import stdout, wake_backend

    wake_backend()
    from robustness import settings
    from robustness.attack import find

    console = stdout()
    if name is None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("attack", "knowledge", "norms", "steps", "source"):
            table.add_column(title, overflow="fold")
        for known in plugins.names(plugins.ATTACKS):
            cls = find(known)
            row = (known, cls.knowledge, ", ".join(cls.norms), str(cls().steps), cls.paper)
            table.add_row(*map(Text, row))
        console.print(table)
        return
    cls = find(name)
    console.print((cls.__doc__ or "").strip(), markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("parameter", "meaning", "default", "range"):
        table.add_column(title, overflow="fold")
    for key, (field, rule) in settings.settings(cls).items():
        default = rule.automatic if field.default is None else str(field.default)
        table.add_row(*map(Text, (key, rule.meaning, default, rule.span())))
    console.print()
    console.print(table)


def check(
    attack: Annotated[str, typer.Argument(help="An installed name, or package.module:Class.")],
) -> None:
    """Try an attack against its contract, clause by clause.

    \b
    Examples:
      robustness check-attack pgd
      robustness check-attack my_package.my_attack:MyAttack
    """
    from robustness.cli.terminal import stdout, wake_backend

    cls = _found(attack, wake_backend)
    from robustness.conformance import check_attack

    console = stdout()
    for passed in check_attack(cls):
        console.print(f"ok  {passed.name}", markup=False)


def _found(text: str, wake: Callable[[], None]) -> type[Attack]:
    from robustness import plugins

    if ":" not in text:
        plugins.expect(plugins.ATTACKS, text)
        wake()
        return plugins.load(plugins.ATTACKS, text)
    module, _, name = text.partition(":")
    wake()
    # A script does not look into the current folder by itself.
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(
            f"{text!r} cannot be imported ({error}); expected package.module:Class of an installed "
            "package or of the current folder."
        ) from None
