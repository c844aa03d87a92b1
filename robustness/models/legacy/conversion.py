"""Decides whether a configuration must be converted, and converts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robustness.models.legacy.entries import Config, Unconvertible
from robustness.models.legacy.graphs import Converter
from robustness.models.legacy.keras1 import is_keras1


@dataclass(frozen=True)
class Conversion:
    """A converted configuration.

    Attributes
    ----------
    config : the model as Keras 3 stores it.
    source : the Keras that wrote the file, in words.
    keras1 : whether that was Keras 1.
    turned : whether Theano has computed with the kernels of convolutions: they are turned by 180 degrees.
    notes : what was done, each a sentence.
    completed : whether Keras 3 has written the file, and only modules were added (`keras3_hdf5`).
    """

    config: Config = field(repr=False)
    source: str
    keras1: bool
    turned: bool
    notes: tuple[str, ...]
    completed: bool = False


def is_older(version: str | None) -> bool:
    """Return whether a file that states `version` was written before Keras 3."""
    return (
        version is None or not version.split(".")[0].isdecimal() or int(version.split(".")[0]) < 3
    )


def convert(config: Any, version: str | None, backend: str | None = None) -> Conversion:
    """Return a configuration that Keras 1 or 2 has written as one of Keras 3.

    Parameters
    ----------
    config : the parsed configuration. It is not changed.
    version : the version of Keras that the file states; None if it states none, as before Keras 1.2.
    backend : the backend that the file states.

    Raises
    ------
    Unconvertible
        Part of it has no equal in Keras 3.
    """
    if not isinstance(config, dict):
        raise Unconvertible("has a configuration that is no object")
    keras1 = is_keras1(version, config)
    source = f"Keras {version}" if version else "Keras 1" if keras1 else "Keras 2 or older"
    converter = Converter(keras1, version or "")
    try:
        made = converter.model(config)
    # In an untrusted configuration any value can have any type.
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise Unconvertible(f"has an unusual configuration ({type(error).__name__})") from error
    except RecursionError:
        raise Unconvertible("nests models too deeply") from None
    turned = backend == "theano"
    notes: tuple[str, ...] = (f"converted from {source}",)
    if keras1 and backend is None and _has(made, "data_format", "channels_first"):
        turned = True
        notes += (
            "its convolutions have the channels first, and Keras 1 does not state the backend: their kernels "
            "are taken as those of Theano; if the accuracy is far from what is claimed, they are not",
        )
    return Conversion(made, source, keras1, turned, notes)


def _has(value: Any, key: str, wanted: str) -> bool:
    """Whether a configuration sets `key` to `wanted` anywhere."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            if one.get(key) == wanted:
                return True
            pending += one.values()
        elif isinstance(one, list):
            pending += one
    return False
