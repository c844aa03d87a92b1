"""Makes the text of docs/configuration.md from the fields of `AuditConfig`."""

from __future__ import annotations

from robustness.configuration.audit_config import audit_options
from robustness.configuration.audit_file import TABLES
from robustness.configuration.option import OptionField
from robustness.configuration.template import toml_value

_HEAD = """\
# The options of an audit

`scripts/write_configuration_docs.py` writes this page and `audit.schema.json` from the fields of
`robustness.AuditConfig`; change the fields, not the page.

Each option can be given on the command line, in `audit.toml` (`robustness init` writes one, `robustness audit
--config audit.toml` reads it), and in Python. The command line overrides the file, and a keyword of
`robustness.audit` overrides its `config`:

```python
robustness.audit(model, images, limit=100, epsilons=[1, 2, 4])
robustness.audit(model, images, robustness.AuditConfig(limit=100, epsilons=[1, 2, 4]))
robustness.audit(model, images, "audit.toml", limit=100)
robustness.audit(model, images, {"limit": 100, "epsilons": [1, 2, 4]})
```

Python takes the model and the images as arguments, not from the file. A relative path in the file is
looked for beside the file first. A value that is not usable is a usage error (exit code 2) that names the
option or the key.
"""
_TITLES = {
    "model": "The model",
    "images": "The images",
    "pipeline": "The input pipeline",
    "cluster": "The cluster",
    "threat": "The threat",
    "attacks": "The attacks",
    "run": "The run",
}
_ATTACKS = """\
In the file each attack is a table with a `name`; its other keys are the attack's parameters. In Python
`attacks` also takes such dicts, `Attack` objects and ensembles. `steps`, `step_size` and `restarts` apply to
all attacks given by name; a file sets them per attack.

```toml
[[attacks]]
name = "pgd"
steps = 40
```
"""
_GATE = """\
## The gate

The table `[gate]` holds the rules that decide the exit code: [docs/ci.md](ci.md#the-configuration).
"""


def reference_page() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    for table in (*TABLES[:-1], "attacks", TABLES[-1]):
        fields = [f for f in audit_options().values() if (f.option.table or "attacks") == table]
        parts.append(f"## {_TITLES[table]}\n")
        if table == "attacks":
            parts.append(_ATTACKS)
        parts.append(
            "\n".join(
                [
                    "| Python | Command line | audit.toml | Values | Default | Meaning |",
                    "|---|---|---|---|---|---|",
                    *map(_row, fields),
                ]
            )
            + "\n"
        )
    return "\n".join([*parts, _GATE])


def _row(field: OptionField) -> str:
    short = f", `-{field.option.short}`" if field.option.short else ""
    place = f"`{field.place}`" if field.place else ""
    cells = [
        f"`{field.name}`",
        f"`{field.flag}`{short}",
        place,
        field.expected,
        "" if field.optional else f"`{_default(field)}`",
        field.option.help,
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: OptionField) -> str:
    default = field.default
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    return default if isinstance(default, str) else toml_value(field)
