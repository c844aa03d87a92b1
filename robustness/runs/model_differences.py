"""Whether two models are one, by their cards: what differs, in words. No framework is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two models' cards (`Classifier.card`), in words; nothing if they are one model.

    What a card lacks, since an older version wrote it, is not compared. Hashes of configuration and code
    are compared if the same versions of Keras and Python made them; answers always are, within what
    another device's rounding can do.
    """
    found = [
        f"{what} (was {_brief(before[key])}, is {_brief(now[key])})"
        for what, key in (
            ("model weights", "weights_sha256"),
            ("input shape", "input_shape"),
            ("head", "head"),
            ("class names", "class_names"),
        )
        if key in before and key in now and _plain(before[key]) != _plain(now[key])
    ]
    found += _scaling(before.get("scaling"), now.get("scaling"))
    old, new = before.get("identity"), now.get("identity")
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        said = _of_the_layers(old, new)
        found += said
        if not found and (far := _answering(old.get("answers"), new.get("answers"))):
            found.append(f"answers to the same pictures ({far})")
    return found


def _scaling(before: Any, now: Any) -> list[str]:
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return []
    same = all(_plain(before.get(k)) == _plain(now.get(k)) for k in ("multiply", "offset", "order"))
    return [] if same else [f"scaling (was {before.get('name')}, is {now.get('name')})"]


def _of_the_layers(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    if old.get("keras") == new.get("keras"):
        a, b = list(old.get("layers") or ()), list(new.get("layers") or ())
        other = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if len(a) != len(b):
            found.append(f"configuration of the model (had {len(a)} layers, has {len(b)})")
        elif other is not None:
            kinds = [str(one[other]).split(" ")[0] for one in (a, b)]
            kind = kinds[0] if kinds[0] == kinds[1] else f"was {kinds[0]}, is {kinds[1]}"
            found.append(f"configuration of layer {other + 1} of {len(a)} ({kind})")
        elif old.get("graph") != new.get("graph"):
            found.append("settings of the model, or connections between its layers")
        if old.get("python") == new.get("python") and old.get("code") != new.get("code"):
            found.append("code of own layers or functions")
    return found


def _answering(before: Any, now: Any) -> str:
    """Where two tables of answers are further apart than devices are; "" if nowhere."""
    if not isinstance(before, list) or not isinstance(now, list) or len(before) != len(now):
        return ""
    for number, (old, new) in enumerate(zip(before, now, strict=True)):
        # Logits of a hundred differ by a tenth between devices.
        slack = 0.02 * (1 + max(map(abs, (*old.values(), *new.values())), default=0.0))
        shared = set(old) & set(new)
        far = max((abs(old[c] - new[c]) for c in shared), default=0.0)
        edge = not shared or max(old, key=old.get) not in new or max(new, key=new.get) not in old
        if far > slack or edge:
            return f"of {len(before)}, number {number + 1} has other probabilities"
    return ""


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _brief(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) < 60 else text[:28] + "..." + text[-28:]
