"""Makes the audit.toml that `robustness init` writes, from the fields of `AuditConfig`."""

from __future__ import annotations

import json
from textwrap import wrap

from robustness.configuration import choices
from robustness.configuration.audit_config import audit_options
from robustness.configuration.audit_file import TABLES
from robustness.configuration.option import OptionField

_WIDTH = 100
_HEAD = """\
# The options of `robustness audit --config audit.toml`. A key behind "#" shows an option that is not
# set, with its default or an example. Options on the command line override this file. Paths are looked
# for beside this file first. docs/configuration.md describes every key.
"""
_ATTACKS = f"""\
# Repeat [[attacks]] for several; `robustness attacks` lists them.
[[attacks]]
# An ensemble, or an attack with parameters of its own, such as the three below.
name = "{choices.ATTACK}"
#name = "pgd"
#steps = 40
#restarts = 1
#step_size = "auto"            # in proportion to epsilon
"""
_GATE = """\
# The gate: rules that decide the exit code: 0 pass, 1 a rule is broken, 2 usage error, 3 the run failed,
# 4 inconclusive, 5 nothing was evaluated. Without rules a run passes unless a diagnostic fails.

#[[gate.rules]]
#name = "floor"                # for the report, and for suppressions
#scope = "worst"               # worst (all attacks together), attack, or class
#attack = "pgd"                # with scope = "attack": one attack; every attack if not given
#class = "cat"                 # with scope = "class": one class; every class if not given
#metric = "robust_accuracy"    # robust_accuracy, clean_accuracy (at least), flip_rate (at most)
#epsilon = 4                   # the largest if not given
#threshold = 0.3
#bound = "lower"               # lower: the whole 95 % interval must comply; point: the share itself

#[gate.baseline]               # no worse than an earlier run on the same images
#run = "baseline/report.json"  # or its folder
#max_drop = 0.02

#[[gate.suppress]]             # a rule or a diagnostic that does not count until a date
#rule = "D24"
#reason = "gradient attacks only until the next release"
#expires = 2027-01-31
"""


def init_text() -> str:
    """Return the text of the file; it contains every option of an audit."""
    tables = {name: _table(name) for name in TABLES}
    run = tables.pop("run")
    return "\n".join([_HEAD, *tables.values(), _ATTACKS, run, _GATE])


def toml_value(field: OptionField) -> str:
    """Return the value that is shown for an option: its example, or its default, as TOML."""
    if field.option.example:
        return field.option.example
    default = field.default
    return json.dumps(list(default) if isinstance(default, tuple) else default)


def _table(name: str) -> str:
    fields = [f for f in audit_options().values() if f.option.table == name]
    return "\n".join([f"[{name}]", *map(_key, fields), ""])


def _key(field: OptionField) -> str:
    """Return the help of an option as comments, followed by the key."""
    comments = [f"# {line}" for line in wrap(field.option.help, _WIDTH - 2)]
    sign = "" if field.option.active else "#"
    return "\n".join([*comments, f"{sign}{field.key} = {toml_value(field)}"])
