"""Makes commands refuse an empty text for a path, one that cannot be recorded, and an option given twice."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from robustness.errors import SettingError
from robustness.files.disk_errors import expect_named

_NAMES = {
    *("model", "images", "surrogate", "mask", "source", "model_first", "images_second"),
    *("imports", "preprocess", "architecture"),
}
"""Text parameters that take a path or a name."""


def paths_of(function: Any) -> set[str]:
    """Return the parameters of a command's function that name a file or a folder."""
    # Generated options are in the signature only.
    hints = {name: p.annotation for name, p in inspect.signature(function).parameters.items()}
    hints |= get_type_hints(function)
    hints = {
        name: get_args(hint)[0] if get_origin(hint) is Annotated else hint
        for name, hint in hints.items()
    }
    return {name for name, hint in hints.items() if Path in (hint, *get_args(hint))} | (
        _NAMES & hints.keys()
    )


_RECORDING = {"audit", "rerun", "merge"}
"""Commands that record their words and the current folder in a run."""


class Command(TyperCommand):
    """A command that refuses an empty text for a path, which `Path` takes for the current folder.

    It also refuses an option with one value that is given twice: all values but the last would be ignored.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raises SettingError, which names what is not usable."""
        if self.name in _RECORDING:
            _expect_recordable([*args, str(Path.cwd())])
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        _expect_once(order)
        paths = paths_of(self.callback)
        for one in (each for each in self.get_params(ctx) if each.name in paths):
            name = (
                one.opts[0] if one.opts[0].startswith("-") else one.metavar or str(one.name).upper()
            )
            value = given.get(str(one.name))
            for text in value if isinstance(value, list | tuple) else [value]:
                expect_named(text, name)
        return super().parse_args(ctx, args)


def _expect_once(order: Iterable[Any]) -> None:
    """Raise SettingError if an option with one value is given twice; `order` has each option as it comes."""
    for one, times in Counter(order).items():
        # A flag may be repeated, unless another spelling switches it off.
        repeatable = one.param_type_name != "option" or one.multiple or one.count
        if times > 1 and not (repeatable or (one.is_flag and not one.secondary_opts)):
            name = max(one.opts, key=len)
            raise SettingError(
                f"{name} is given {times} times; expected once. Where it takes several values, they are "
                "separated by commas."
            )


def _expect_recordable(args: Iterable[str]) -> None:
    """Raise SettingError for a word that is no text: bytes of a file name that are not UTF-8."""
    for word in args:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise SettingError(
                f"{word!r} holds bytes that are not UTF-8, so run.json cannot record it; expected the "
                "path in UTF-8. Rename the file or folder, or name it by a link or by the folder above it."
            ) from None


def check_arguments(apps: Iterable[typer.Typer]) -> None:
    """Make every command of `apps` a `Command`."""
    for app in apps:
        for one in app.registered_commands:
            one.cls = Command
