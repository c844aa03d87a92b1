"""Compares what two runs audit: model, images and settings. Imports no framework."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from robustness.runs import model_differences
from robustness.runs.schema import AttackEntry, GoalEntry, Manifest, Settings


def audit_differences(before: Manifest, now: Manifest, settings: AbstractSet[str]) -> list[str]:
    """Return the differences between the audits of two runs.

    Parameters
    ----------
    before, now : Manifest
        Of the two runs.
    settings : set of str
        The names of the settings that are compared.

    Returns
    -------
    list of str
        One phrase per difference, with both values; empty if both are the same audit.
    """
    differing = model_differences.differences(before.model, now.model)
    if before.surrogate and now.surrogate:
        differing += [
            f"surrogate: {difference}"
            for difference in model_differences.differences(before.surrogate, now.surrogate)
        ]
        # The setting is the hash of the weights, which is compared above.
        settings = settings - {"surrogate"}
    settings = settings - {"attacks", "norm_code"}
    old, new = before.config, now.config
    differing += code_differences(old, new)
    pairs = [
        ("selection of images", before.data.selection_sha256, now.data.selection_sha256),
        ("setting attacks", _without_code(old), _without_code(new)),
        *(
            (f"setting {name}", getattr(old, name), getattr(new, name))
            for name in type(new).model_fields
            if name in settings
        ),
    ]
    return differing + [
        f"{what} (was {_brief(a)}, is {_brief(b)})" for what, a, b in pairs if a != b
    ]


def _without_code(config: Settings) -> tuple[AttackEntry, ...]:
    return tuple(attack.without("code") for attack in config.attacks)


def code_differences(before: Settings, now: Settings) -> list[str]:
    """Return the attacks and the norm of other packages whose code is not the same in two runs.

    Parameters
    ----------
    before, now : Settings
        Of the two runs. Code that one of them did not record, or for another version of Python, is left out.

    Returns
    -------
    list of str
        One phrase for each.
    """
    pairs = [(f"code of the norm {now.norm}", before.norm_code, now.norm_code)]
    by_label = {attack.label: attack.code for attack in before.attacks}
    pairs += [(f"code of {a.title}", by_label.get(a.label), a.code) for a in now.attacks]
    return [
        what
        for what, old, new in pairs
        if old is not None and new is not None and old.python == new.python and old != new
    ]


def _brief(value: object) -> str:
    if isinstance(value, GoalEntry):
        text = value.sentence
    elif isinstance(value, tuple) and all(isinstance(item, AttackEntry) for item in value):
        text = ", ".join(item.title for item in value)
    else:
        text = str(value)
    return text if len(text) < 60 else text[:28] + "..." + text[-28:]
