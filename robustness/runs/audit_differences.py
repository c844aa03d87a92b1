"""Compares what two runs audit: model, images and settings. Imports no framework."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from robustness.runs import model_differences
from robustness.runs.schema import AttackEntry, GoalEntry, Manifest


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
    pairs = [
        ("selection of images", before.data.selection_sha256, now.data.selection_sha256),
        *(
            (f"setting {name}", getattr(before.config, name), getattr(now.config, name))
            for name in type(now.config).model_fields
            if name in settings
        ),
    ]
    return differing + [
        f"{what} (was {_brief(old)}, is {_brief(new)})" for what, old, new in pairs if old != new
    ]


def _brief(value: object) -> str:
    if isinstance(value, GoalEntry):
        text = value.sentence
    elif isinstance(value, tuple) and all(isinstance(item, AttackEntry) for item in value):
        text = ", ".join(item.title for item in value)
    else:
        text = str(value)
    return text if len(text) < 60 else text[:28] + "..." + text[-28:]
