"""The command `robustness models`: lists the models that can be audited by name."""

from __future__ import annotations


def models() -> None:
    """List the models that can be audited by name.

    \b
    Examples:
      robustness models
      robustness audit --model dogs-vs-cats
    """
    from rich.table import Table
    from rich.text import Text

    from robustness.cli.tables import print_table
    from robustness.cli.terminal import stdout
    from robustness.model_zoo import list_models

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("model", "input", "classes", "description"):
        table.add_column(title, overflow="fold")
    for info in list_models():
        shape = "x".join(map(str, info.input_shape)) if info.input_shape else ""
        table.add_row(*map(Text, (info.name, shape, ", ".join(info.classes), info.summary)))
    print_table(stdout(), table)
