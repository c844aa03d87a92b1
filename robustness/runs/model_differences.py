"""Compares two models by their entries in `run.json`. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustness.runs.schema import IdentityEntry, ModelEntry, ScalingEntry


def differences(before: ModelEntry, now: ModelEntry) -> list[str]:
    """Return the differences between two models.

    Parameters
    ----------
    before, now : ModelEntry
        The entries of the two models.

    Returns
    -------
    list of str
        One phrase per difference; empty if both are the same model.

    Notes
    -----
    Keys that an older version did not write are not compared. Hashes of configuration and code are compared
    only if the same versions of Keras and Python made them. Outputs for the fixed pictures are compared if
    nothing else differs, with a tolerance for the rounding of another device.
    """
    differing = [
        f"{what} (was {_brief(getattr(before, key))}, is {_brief(getattr(now, key))})"
        for what, key in (
            ("model weights", "weights_sha256"),
            ("input shape", "input_shape"),
            ("head", "head"),
            ("class names", "class_names"),
        )
        if key in before.model_fields_set & now.model_fields_set
        and getattr(before, key) != getattr(now, key)
    ]
    if before.scaling and now.scaling:
        differing += _scaling(before.scaling, now.scaling)
    if before.identity and now.identity:
        old, new = before.identity, now.identity
        differing += _layers(old, new)
        if not differing and (far := _answers(old.answers, new.answers)):
            differing.append(f"outputs for the same pictures ({far})")
    return differing


def _scaling(before: ScalingEntry, now: ScalingEntry) -> list[str]:
    same = (before.multiply, before.offset, before.order) == (now.multiply, now.offset, now.order)
    return [] if same else [f"scaling (was {before.name}, is {now.name})"]


def _layers(old: IdentityEntry, new: IdentityEntry) -> list[str]:
    differing = []
    if old.keras == new.keras:
        a, b = old.layers, new.layers
        other = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if len(a) != len(b):
            differing.append(f"configuration of the model (had {len(a)} layers, has {len(b)})")
        elif other is not None:
            kinds = [layers[other].split(" ")[0] for layers in (a, b)]
            kind = kinds[0] if kinds[0] == kinds[1] else f"was {kinds[0]}, is {kinds[1]}"
            differing.append(f"configuration of layer {other + 1} of {len(a)} ({kind})")
        elif old.graph != new.graph:
            differing.append("settings of the model, or connections between its layers")
        if old.python == new.python and old.code != new.code:
            differing.append("code of custom layers or functions")
    return differing


def _answers(
    before: Sequence[Mapping[str, float]] | None, now: Sequence[Mapping[str, float]] | None
) -> str:
    """The first picture whose outputs differ by more than devices do; "" if there is none."""
    if before is None or now is None or len(before) != len(now):
        return ""
    for number, (old, new) in enumerate(zip(before, now, strict=True)):
        # Logits of about 100 differ by 0.1 between devices.
        slack = 0.02 * (1 + max(map(abs, (*old.values(), *new.values())), default=0.0))
        shared = set(old) & set(new)
        far = max((abs(old[c] - new[c]) for c in shared), default=0.0)
        edge = (
            not shared
            or max(old, key=lambda c: old[c]) not in new
            or max(new, key=lambda c: new[c]) not in old
        )
        if far > slack or edge:
            return f"picture {number + 1} of {len(before)} has other probabilities"
    return ""


def _brief(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) < 60 else text[:28] + "..." + text[-28:]
